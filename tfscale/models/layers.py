"""The few layers that Keras has no stock version of; none but `TiedEmbedding` holds weights.

Each takes the keras module as `keras`, so that `keras` and `tf_keras` share one definition. All compute with
`keras.ops`, on any of Keras' runtimes; a layer of tf_keras hands on tensors of TensorFlow, which Keras' own TensorFlow
runtime takes as they are.
"""

import functools
import math
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from keras import backend, ops

from twinscale.common.errors import one_of
from twinscale.common.numbers.bits import name_word
from twinscale.tfscale import bits
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.layers_wide import norm_classes, wide_classes
from twinscale.tfscale.wide import kept_wide

Keras = Any  # the module keras or tf_keras, or what stands for one: `tfscale.compress.model.Wrapping`

# What `.keras` files call our activations, which no stock one is called: those round otherwise, and Keras takes its own
# where it knows a name.
GELUS = {"gelu": "twinscale_gelu", "gelu_tanh": "twinscale_gelu_tanh", "silu": "twinscale_swiglu"}

# Whether the model that is being built is one to train by: its causal attention goes piece by piece. Or what computes
# that, of queries, keys, values and segments, on a runtime that has better.
TO_TRAIN: list[Any] = [False]

# The two products of attention, for grouped queries.
by_key = functools.partial(ops.einsum, "btkgd,bskd->bkgts")
by_share = functools.partial(ops.einsum, "bkgts,bskd->btkgd")


@contextmanager
def to_train(wanted: "bool | Callable[..., Tensor]") -> Iterator[None]:
    """While open and `wanted`, decoders are built whose causal attention goes by `common.families.decoder.pieces`:
    its layers are called once a piece, so that none of them has an output that could be read. Or by a function of
    the name of the attention, queries (B, T, H, D), keys and values (B, T, K, D) and segments (B, T) or None to
    (B, T, H D), in their place."""
    TO_TRAIN.append(wanted)
    try:
        yield
    finally:
        TO_TRAIN.pop()


def layers(keras: Keras) -> types.SimpleNamespace:
    """The layer classes for one keras module, or those that it has as `own`."""
    return getattr(keras, "own", None) or classes(keras)


@functools.cache
def classes(keras: Keras) -> types.SimpleNamespace:
    """The layer classes for one keras module, made once."""
    return types.SimpleNamespace(**table_classes(keras), **norm_classes(keras) | wide_classes(keras),
                                 **attention_classes(keras), **computed_classes(keras), **encoder_classes(keras),
                                 **image_classes(keras))


def table_classes(keras: Keras) -> dict[str, type]:
    """{name: class} of the table that is also the head, and of the dropout after it."""

    class TiedEmbedding(keras.layers.Embedding):
        """An embedding that is also the head: ids (B, T) to (B, T, D); `reverse`: (B, T, D) to logits (B, T, V)."""

        reverse_place = "head"  # what the place of the second is called

        def build(self, *shape):
            super().build(*shape)
            if backend.backend() != "tensorflow":  # which adds up the rows of its sparse gradients by itself
                kept_wide(self._embeddings)

        def call(self, inputs, reverse=False):
            table = self._embeddings.value if hasattr(self, "_embeddings") else self.embeddings
            if not reverse:  # in the masters' dtype, so that the rows' gradients add up in it
                return ops.cast(ops.take(table, inputs, axis=0), self.compute_dtype)
            table = ops.cast(table, self.compute_dtype)
            width = inputs.shape[-1]
            logits = product(ops.matmul, ops.reshape(inputs, (-1, width)), ops.transpose(table))
            return ops.reshape(logits, (-1, *inputs.shape[1:-1], table.shape[0]))

        def compute_output_spec(self, inputs, reverse=False):
            shape = (*inputs.shape[:-1], self.input_dim) if reverse else (*inputs.shape, self.output_dim)
            return keras.KerasTensor(shape, self.compute_dtype)

    class SharedDropout(keras.layers.Layer):
        """Dropout from the shared bits; the layer's name is the place that draws, unless its word is given."""

        def __init__(self, rate, **kwargs):
            super().__init__(**kwargs)
            self.rate = rate

        def call(self, x, row, key, training=False, place=None):
            place = name_word(self.name) if place is None else place
            return bits.dropout(x, key, row, self.rate, place) if training else x

        def get_config(self):
            return {**super().get_config(), "rate": self.rate}

    return {"TiedEmbedding": TiedEmbedding, "SharedDropout": SharedDropout}


def image_classes(keras: Keras) -> dict[str, type]:
    """{name: class} of what images go through."""

    class MaxPooling(keras.layers.Layer):
        """The largest value of each window of (B, H, W, C), (B, H / stride, W / stride, C) rounded up, with as much
        nothing before as behind; of equal values the gradient goes to the first. (Of the stock layer XLA knows no
        gradient where determinism is asked for, and "same" has more behind.)"""

        def __init__(self, window, stride, **kwargs):
            super().__init__(**kwargs)
            self.window, self.stride = window, stride

        def call(self, x):
            around, (height, width) = self.window // 2, (-(-side // self.stride) for side in x.shape[1:3])
            lowest = -math.inf  # so that an infinity of the image is not lost
            x = ops.pad(x, ((0, 0), (around, around), (around, around), (0, 0)), constant_values=lowest)
            found = None
            for i in range(self.window):
                for j in range(self.window):
                    y = x[:, i:i + height * self.stride:self.stride, j:j + width * self.stride:self.stride]
                    y = y[:, :height, :width]
                    found = y if found is None else ops.where(y > found, y, found)
            return found

        def get_config(self):
            return {**super().get_config(), "window": self.window, "stride": self.stride}

    class Places(keras.layers.Layer):
        """0, 1, ... up to `count` for each row of images (B, ...): (B, count), which a table reads."""

        def __init__(self, count, **kwargs):
            super().__init__(**kwargs)
            self.count = count

        def call(self, x):
            rows = ops.zeros_like(ops.reshape(x, (x.shape[0] or -1, math.prod(x.shape[1:])))[:, :1], dtype="int32")
            return rows + np.arange(self.count, dtype=np.int32)

        def get_config(self):
            return {**super().get_config(), "count": self.count}

    return {"MaxPooling": MaxPooling, "Places": Places}


def attention_classes(keras: Keras) -> dict[str, type]:
    """{name: class} of what queries, keys and values go through."""

    class Rotary(keras.layers.Layer):
        """Rotary positions (Su et al. 2021) on (B, T, H, D): halves of the head rotate against each other."""

        def __init__(self, length, base, **kwargs):
            super().__init__(**kwargs)
            self.length, self.base = length, base

        def call(self, x, positions):
            half = x.shape[-1] // 2
            angles = np.arange(self.length)[:, None] * self.base ** (-np.arange(half) / half)
            wide = masters(x)
            cos, sin = (ops.take(f(angles).astype(wide), positions, axis=0)[:, :, None] for f in (np.cos, np.sin))
            # Halves change places in the narrower dtype, which moves half as much and rounds no more often.
            a, b = (ops.cast(part, wide) for part in ops.split(x, 2, axis=-1))
            rotated = a * cos - b * sin, b * cos + a * sin
            return ops.concatenate([ops.cast(part, x.dtype) for part in rotated], axis=-1)

        def get_config(self):
            return {**super().get_config(), "length": self.length, "base": self.base}

    class AttentionScores(keras.layers.Layer):
        """Scaled products of queries and keys (Vaswani et al. 2017), in float32 or wider.

        q (B, T, H, D) and k (B, S, K, D) to (B, K, H / K, T, S), where K divides H (grouped-query attention, Ainslie
        et al. 2023: query head h reads key head h // (H / K)).
        """

        def call(self, q, k):
            length, heads, width = q.shape[1:]
            grouped = ops.reshape(q, (-1, length, k.shape[2], heads // k.shape[2], width))
            return ops.cast(product(by_key, grouped, k), masters(q)) * width**-0.5

    class CausalMask(keras.layers.Layer):
        """Scores (B, K, G, T, S) of the last T of S positions, lowest where one would see a later one or, with segments
        (B, S or more), another document."""

        def call(self, scores, segments=None):
            queries, keys = scores.shape[-2:]
            places = ops.arange(keys)  # a graph's constant of (T, S) would be written value by value
            mask = (places[keys - queries:, None] >= places)[None, None, None]
            if segments is not None:
                own, others = segments[:, keys - queries:keys], segments[:, :keys]
                mask = ops.logical_and(mask, ops.equal(own[:, :, None], others[:, None])[:, None, None])
            return ops.where(mask, scores, np.finfo(masters(scores)).min)

    class AttentionMix(keras.layers.Layer):
        """Values (B, S, K, D) mixed by shares (B, K, G, T, S): (B, T, K G D)."""

        def call(self, shares, v):
            mixed = product(by_share, shares, v)
            return ops.reshape(mixed, (-1, mixed.shape[1], math.prod(mixed.shape[2:])))

    return {one.__name__: one for one in (Rotary, AttentionScores, CausalMask, AttentionMix)}


def computed_classes(keras: Keras) -> dict[str, type]:
    """{name: class} of what a runtime computes that has better than layers."""

    class Computed(keras.layers.Layer):
        """Causal attention (B, T, H D) by a function of the runtime's; see `to_train`."""

        def __init__(self, function, **kwargs):
            super().__init__(**kwargs)
            self.function = function

        def compute_output_spec(self, q, k, v, segments=None):
            return keras.KerasTensor((*q.shape[:2], math.prod(q.shape[2:])), self.compute_dtype)

        def call(self, q, k, v, segments=None):
            return self.function(self.name.removesuffix(".mix"), q, k, v, segments)

    return {"Computed": Computed}


def encoder_classes(keras: Keras) -> dict[str, type]:
    """{name: class} of what padding is kept out by, and of what stands before and after an encoder's blocks."""

    class Positions(keras.layers.Layer):
        """The rows of a table of positions that ids (B, L) read, `first` on."""

        def __init__(self, first, **kwargs):
            super().__init__(**kwargs)
            self.first = first

        def call(self, ids):
            return ops.zeros_like(ids) + np.arange(self.first, self.first + ids.shape[1], dtype=np.int32)

        def get_config(self):
            return {**super().get_config(), "first": self.first}

    class PaddingMask(keras.layers.Layer):
        """Scores (B, K, G, T, S), lowest where `kept` (B, S) is 0. (Keras has masks of its own by the name `mask`.)"""

        def call(self, scores, kept):
            return ops.where(ops.not_equal(kept, 0)[:, None, None, None], scores, np.finfo(masters(scores)).min)

    class First(keras.layers.Layer):
        """The first position of (B, L, D): (B, D)."""

        def call(self, x):
            return x[:, 0]

    class MeanOver(keras.layers.Layer):
        """The mean (B, D) of (B, S, D) over the positions whose `kept` (B, S) is not 0, rounded once."""

        def call(self, x, kept):
            wide = masters(x)
            kept = ops.cast(ops.not_equal(kept, 0), wide)[..., None]
            return ops.cast(ops.sum(ops.cast(x, wide) * kept, 1) / ops.sum(kept, 1), x.dtype)

    class Unit(keras.layers.Layer):
        """(..., D) at length 1, or divided by 1e-12 where it is shorter than that, rounded once."""

        def call(self, x):
            wide = ops.cast(x, masters(x))
            square = ops.sum(ops.square(wide), -1, keepdims=True)
            return ops.cast(wide * ops.rsqrt(ops.maximum(square, ops.full_like(square, 1e-24))), x.dtype)

    class Bias(keras.layers.Layer):
        """x (..., D) + bias, in float32 or wider and rounded once."""

        def build(self, input_shape):
            self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros", autocast=False)

        def call(self, x):
            bias = ops.convert_to_tensor(self.bias)
            rows = ops.reshape(ops.cast(x, bias.dtype), (-1, x.shape[-1]))  # the gradient is a sum over one axis
            return ops.reshape(ops.cast(rows + bias, x.dtype), (-1, *x.shape[1:]))

    return {one.__name__: one for one in (Positions, PaddingMask, First, MeanOver, Unit, Bias)}


def masters(x: Tensor) -> str:
    """The dtype of a tensor's masters: float32, or float64 for float64."""
    return "float64" if backend.standardize_dtype(x.dtype) == "float64" else "float32"


def product(multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """`multiply` of two tensors of one dtype, summed in float32 or wider and rounded to the nearest of that dtype once.

    Without XLA TensorFlow's kernels on a CPU do not so in bfloat16: an einsum is summed in it (einsum_op_impl.h,
    ContractOperands, hands it to Eigen), a matrix product is summed in float32 and then cut off (matmul_op_impl.h:
    FloatToBFloat16). A GPU and a TPU do, and are fastest if left alone.
    """
    if backend.standardize_dtype(a.dtype) != "bfloat16" or accelerated():
        return multiply(a, b)
    return ops.cast(multiply(ops.cast(a, "float32"), ops.cast(b, "float32")), "bfloat16")


def accelerated() -> bool:
    """Whether TensorFlow computes elsewhere than on the CPU, or another of Keras' runtimes does."""
    if backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    return any(tf.config.list_physical_devices(kind) for kind in ("GPU", "TPU"))


def gelu(x: Tensor) -> Tensor:
    """GELU, x Phi(x) (Hendrycks & Gimpel 2016). tf.nn.gelu rounds its square root of 2 to float32, in float64 too."""
    return 0.5 * x * (1 + ops.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU's tanh form, with (1 + tanh(u)) / 2 as sigmoid(2u), for Keras' tanh is float32 on JAX whatever comes in.
    tf.nn.gelu(approximate=True) rounds 0.044715 to float32, in float64 too."""
    return x * ops.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


def tanh(x: Tensor) -> Tensor:
    """tanh by way of exp(2x) - 1, for Keras' own is float32 on JAX whatever comes in; from 20 on it is 1."""
    grown = ops.expm1(2 * ops.minimum(x, ops.full_like(x, 20)))
    return grown / (grown + 2)


def activation(name: str) -> str | Callable[[Tensor], Tensor]:
    """What a stock Activation layer takes for a recipe's activation; bfloat16 is widened, and rounded once."""
    function = one_of({"relu": None, "gelu": gelu, "gelu_tanh": gelu_tanh, "swiglu": ops.silu, "tanh": tanh},
                      name, "model.activation")
    if function is None:  # stock, which rounds nothing
        return name

    @functools.wraps(function)
    def widened(x):
        return ops.cast(function(ops.cast(x, masters(x))), x.dtype)

    return widened
