"""Generation from a decoder with a cache of keys and values, and the trainer's forward pass to hold it against.

A slot of the cache is a position: what stands at position p lies in slot p, and is seen from position p on. So rows of
different lengths share one batch without a mask of their own, and a slot that was filled up with anything is written
before it is seen. `common/generation/loop.py` asks for the tokens.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from twinscale.common.export.check import one_document
from twinscale.common.export.write import served
from twinscale.common.families.decoder import Decoder
from twinscale.common.generation.loop import AHEAD, Sampler
from twinscale.common.generation.sample import FARTHEST, Drawing
from twinscale.tfscale.batch_loss import model_inputs
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.export import filled
from twinscale.tfscale.models import build
from twinscale.tfscale.models.layers import masters, product

if TYPE_CHECKING:
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

Cache = list[tuple[Tensor, Tensor]]  # of each block, keys and values (B, K, S, D) in the compute dtype

# The two products of attention, for keys and values that lie head by head.
by_cached_key = functools.partial(ops.einsum, "btkgd,bksd->bkgts")
by_cached_share = functools.partial(ops.einsum, "bkgts,bksd->btkgd")


def sampler(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray]) -> Sampler:
    """The Sampler of a decoder with the values of {canonical name: array}; compiled once for each shape that it is
    called with. Its cache is handed from call to call. It goes on by itself, for a call costs TensorFlow a millisecond,
    in which the cache is copied as well."""
    recipe = alone(recipe)
    m: Decoder = recipe.model  # type: ignore[assignment]  # whose family it is
    model = filled(build(recipe, shape.classes, shape.example_shape, keras), tensors)

    def start(ids, lengths, slots):
        cache = empty(model, m, ids.shape[0], slots)
        x, cache = through(model, m, ids, ops.zeros_like(ids) + ops.arange(ids.shape[1], dtype="int32"), cache)
        return head(model, m, tf.gather(x, lengths[:, None] - 1, batch_dims=1))[:, 0], cache

    def step(ids, positions, cache):
        x, cache = through(model, m, ids[:, None], positions[:, None], cache)
        return head(model, m, x)[:, 0], cache

    @functools.cache  # of a Drawing without a seed, which is in the uniform numbers
    def several(drawing):
        def call(ids, positions, cache, count, uniforms):
            def more(number, ids, positions, cache, tokens, found):
                logits, cache = step(ids, positions, cache)
                ids = guessed(logits, drawing, uniforms[number])
                tokens, found = (tf.tensor_scatter_nd_update(held, [[number]], [new])
                                 for held, new in ((tokens, ids), (found, logits)))
                return number + 1, ids, positions + 1, cache, tokens, found

            kind = model.get_layer("logits").compute_dtype
            rows = ids.shape[0]
            held = tf.zeros((AHEAD, rows), tf.int32), tf.zeros((AHEAD, rows, shape.classes), kind)
            return tf.while_loop(lambda number, *_: number < count, more, (0, ids, positions, cache, *held))[3:]

        return tf.function(call, jit_compile=recipe.keras.jit_compile, autograph=False)

    def ahead(ids, positions, cache, count, drawing, uniforms):
        cache, tokens, logits = several(replace(drawing, seed=0))(
            tf.constant(ids), tf.constant(positions), cache, tf.constant(count), tf.constant(uniforms))
        return tokens.numpy()[:count], logits.numpy()[:count], cache

    begun, stepped = (tf.function(call, jit_compile=recipe.keras.jit_compile, autograph=False)
                      for call in (start, step))
    return Sampler(lambda ids, lengths, slots: begun(tf.constant(ids), tf.constant(lengths), slots),
                   lambda ids, positions, cache: stepped(tf.constant(ids), tf.constant(positions), cache), ahead)


def trainer(recipe: "Recipe", shape: "Shape") -> Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]:
    """({canonical name: array}, ids (B, T) of all the model's positions) to the logits (B, T, V), NumPy, of the
    trainer's own forward pass over rows of one document each."""
    recipe = alone(recipe)
    model = build(recipe, shape.classes, shape.example_shape, keras)
    forward = tf.function(lambda given: model(given, training=False), jit_compile=recipe.keras.jit_compile,
                          autograph=False)

    def logits(tensors, ids):
        filled(model, tensors)
        return forward(model_inputs(recipe, one_document(ids), tf.zeros(2, tf.uint32))).numpy()

    return logits


def alone(recipe: "Recipe") -> "Recipe":
    """The recipe of a decoder that reads one document a row."""
    return served(recipe)


def empty(model: keras.Model, m: Decoder, rows: int, slots: int) -> Cache:
    """A Cache of zeros for `rows` rows and `slots` positions."""
    kind, shape = model.get_layer("block_0.attention.mix").compute_dtype, (rows, m.kv, slots, m.head_width)
    return [(ops.zeros(shape, kind), ops.zeros(shape, kind)) for _ in range(m.layers)]


def through(model: keras.Model, m: Decoder, ids: Tensor, positions: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
    """(what the head reads (B, T, D), the cache with these positions in it) of ids and positions, both (B, T)."""
    layer, filled_up = model.get_layer, []
    x = layer("embedding")(ids)
    if not m.rotates:
        x = layer("embedding.sum")([x, layer("position")(positions)])
    for i, known in enumerate(cache):
        block = f"block_{i}"
        y, known = attention(model, m, f"{block}.attention", layer(f"{block}.norm_1")(x), positions, known)
        y = behind(model, m, f"{block}.attention", y)
        filled_up.append(known)
        x = layer(f"{block}.residual_1")([x, y])
        y = feedforward(model, m, f"{block}.feedforward", layer(f"{block}.norm_2")(x))
        y = behind(model, m, f"{block}.feedforward", y)
        x = layer(f"{block}.residual_2")([x, y])
    return layer("norm")(x), filled_up


def head(model: keras.Model, m: Decoder, x: Tensor) -> Tensor:
    """Logits (B, T, V), float32 or wider, of what the head reads."""
    logits = model.get_layer("embedding")(x, reverse=True) if m.tied else model.get_layer("head")(x)
    return model.get_layer("logits")(logits)


def feedforward(model: keras.Model, m: Decoder, name: str, x: Tensor) -> Tensor:
    """What a feed-forward layer makes of x (B, T, D)."""
    layer, act = model.get_layer, model.get_layer(f"{name}.activation")
    up = layer(f"{name}.up")(x)
    if m.gated:
        return layer(f"{name}.down")(layer(f"{name}.gated")([act(layer(f"{name}.gate")(x)), up]))
    return layer(f"{name}.down")(act(up))


def behind(model: keras.Model, m: Decoder, part: str, x: Tensor) -> Tensor:
    """x (B, T, D) after the adapter behind a part of a block, where there is one."""
    if not m.bottleneck:
        return x
    layer, name = model.get_layer, f"{part}.adapter"
    y = layer(f"{name}.up")(layer(f"{name}.activation")(layer(f"{name}.down")(x)))
    return layer(f"{name}.residual")([x, y])


def attention(model: keras.Model, m: Decoder, name: str, x: Tensor, positions: Tensor, known: tuple[Tensor, Tensor]
              ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(what attention makes of x (B, T, D) over all that is cached, the cache) at positions (B, T)."""
    layer = model.get_layer
    q, k, v = (ops.reshape(layer(f"{name}.{part}")(x), (*x.shape[:2], -1, m.head_width))
               for part in ("query", "key", "value"))
    if m.rotates:
        q, k = (rotated(layer(f"{name}.{part}.rotary"), at, positions) for part, at in (("query", q), ("key", k)))
    keys, values = put(known[0], k, positions), put(known[1], v, positions)
    q = ops.reshape(q, (*x.shape[:2], m.kv, -1, m.head_width))
    scores = ops.cast(product(by_cached_key, q, keys), masters(q)) * m.head_width**-0.5
    shares = layer(f"{name}.shares")(ops.where(seen(positions, keys.shape[2]), scores,
                                               np.finfo(masters(scores)).min))
    mixed = product(by_cached_share, ops.cast(shares, values.dtype), values)
    return layer(f"{name}.output")(ops.reshape(mixed, (*x.shape[:2], -1))), (keys, values)


def rotated(layer: keras.layers.Layer, x: Tensor, positions: Tensor) -> Tensor:
    """Queries or keys (B, T, H, D) at positions (B, T)."""
    return layer(x, positions=positions)


def put(known: Tensor, new: Tensor, positions: Tensor) -> Tensor:
    """The cache (B, K, S, D) with `new` (B, T, K, D) in the slots `positions` (B, T), which follow on each other:
    from 0 on where T is above 1."""
    new = ops.swapaxes(new, 1, 2)
    if new.shape[2] > 1:
        return ops.concatenate([new, known[:, :, new.shape[2]:]], 2)
    return ops.where(ops.equal(ops.arange(known.shape[2], dtype="int32"), positions)[:, None, :, None], new, known)


def seen(positions: Tensor, slots: int) -> Tensor:
    """Whether a position (B, T) sees a slot: bool (B, 1, 1, T, S)."""
    return (ops.arange(slots, dtype="int32") <= positions[..., None])[:, None, None]


def guessed(logits: Tensor, drawing: Drawing, uniform: Tensor) -> Tensor:
    """The tokens int32 (B,) that `common/generation/sample.py` chooses of logits (B, V) by uniform numbers (B,),
    but for what its sums round otherwise."""
    if drawing.likeliest:
        return tf.argmax(logits, -1, output_type=tf.int32)
    wide, count = tf.cast(logits, tf.float64), logits.shape[-1]
    shares = tf.exp(tf.maximum((wide - tf.reduce_max(wide, -1, keepdims=True)) / drawing.temperature, FARTHEST))
    if 0 < drawing.top_k < count or drawing.top_p < 1:
        order = tf.argsort(shares, direction="DESCENDING", stable=True)
        ranked = tf.gather(shares, order, batch_dims=1)
        if drawing.top_k:
            ranked = tf.where(tf.range(count) < drawing.top_k, ranked, 0)
        before = tf.cumsum(ranked, -1, exclusive=True) / tf.reduce_sum(ranked, -1, keepdims=True)
        ranked = tf.where(before < drawing.top_p, ranked, 0)
        shares = tf.gather(ranked, tf.argsort(order), batch_dims=1)
    sums = tf.cumsum(shares, -1)
    passed = tf.reduce_sum(tf.cast(sums <= uniform[:, None] * sums[:, -1:], tf.int32), -1)
    return tf.minimum(passed, count - 1)
