"""A pre-norm transformer decoder as a functional Keras graph; a layer's name is its canonical name."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from keras import ops

from twinscale.common.errors import one_of
from twinscale.common.families.decoder import Decoder, pieces
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.bottleneck import behind
from twinscale.tfscale.models.layers import TO_TRAIN, Keras, activation, layers

if TYPE_CHECKING:
    import keras


def build(m: Decoder, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """Logits (B, T, V) of a dict of inputs: `inputs`, `positions`, and where used `segments`, `row` and `key`."""
    stock, own = keras.layers, layers(keras)
    length = inputs["inputs"].shape[1]
    masters = "float64" if policy == "float64" else "float32"

    def dense(name, x, outputs):
        return own.Dense(outputs, use_bias=m.bias, dtype=policy, name=name)(x)

    def norm(name, x):
        make = one_of({"rms": own.RMSNormalization, "layer": partial(own.LayerNormalization, center=m.bias)},
                      m.norm, "model.norm")
        return make(epsilon=m.norm_epsilon, dtype=policy, name=name)(x)

    def heads(name, x, count):
        x = stock.Reshape((length, count, m.head_width), dtype=policy, name=f"{name}.heads")(x)
        if not m.rotates or name.endswith("value"):
            return x
        return own.Rotary(length, m.rotary_base, dtype=policy, name=f"{name}.rotary")(x, positions=inputs["positions"])

    def dropout(name, x):
        if not m.dropout:
            return x
        return own.SharedDropout(m.dropout, dtype=policy, name=name)(x, row=inputs["row"], key=inputs["key"])

    def attention(name, x):
        q = heads(f"{name}.query", dense(f"{name}.query", x, m.heads * m.head_width), m.heads)
        k = heads(f"{name}.key", dense(f"{name}.key", x, m.kv * m.head_width), m.kv)
        v = heads(f"{name}.value", dense(f"{name}.value", x, m.kv * m.head_width), m.kv)
        mixed = attended(name, (q, k, v), inputs.get("segments"), policy, keras)
        return dense(f"{name}.output", mixed, m.width)

    def feedforward(name, x):
        act = stock.Activation(activation(m.activation), dtype=policy, name=f"{name}.activation")
        if m.gated:
            gate = act(dense(f"{name}.gate", x, m.feedforward))
            x = stock.Multiply(dtype=policy, name=f"{name}.gated")([gate, dense(f"{name}.up", x, m.feedforward)])
        else:
            x = act(dense(f"{name}.up", x, m.feedforward))
        return dense(f"{name}.down", x, m.width)

    embedding, x = embedded(m, classes, inputs, policy, keras)
    x = dropout("embedding.dropout", x)
    for i in range(m.layers):
        block = f"block_{i}"
        y = dropout(f"{block}.attention.dropout", attention(f"{block}.attention", norm(f"{block}.norm_1", x)))
        y = behind(m, f"{block}.attention", y, policy, keras)
        x = stock.Add(dtype=policy, name=f"{block}.residual_1")([x, y])
        y = dropout(f"{block}.feedforward.dropout", feedforward(f"{block}.feedforward", norm(f"{block}.norm_2", x)))
        y = behind(m, f"{block}.feedforward", y, policy, keras)
        x = stock.Add(dtype=policy, name=f"{block}.residual_2")([x, y])
    x = norm("norm", x)
    head = partial(embedding, reverse=True) if m.tied else own.Dense(classes, use_bias=False, dtype=policy, name="head")
    return stock.Activation("linear", dtype=masters, name="logits")(head(x))


def attended(name: str, qkv: "tuple[Tensor, Tensor, Tensor]", segments: "Tensor | None", policy: str, keras: Keras
             ) -> Tensor:
    """Causal attention (B, T, H D) of queries (B, T, H, D), keys and values (B, T, K, D): whole, or in a model to train
    piece by piece, by the same layers, or by what the runtime has better."""
    (q, k, v), masters = qkv, "float64" if policy == "float64" else "float32"
    scores, mix = (make(dtype=policy, name=f"{name}.{part}") for make, part in (
        (layers(keras).AttentionScores, "scores"), (layers(keras).AttentionMix, "mix")))
    mask, shares = (make(dtype=masters, name=f"{name}.{part}") for make, part in (
        (layers(keras).CausalMask, "mask"), (keras.layers.Softmax, "shares")))

    def mixed(queries, keys, values):
        return mix(shares(mask(scores(queries, k=keys), segments=segments)), v=values)

    if callable(TO_TRAIN[-1]):
        return layers(keras).Computed(TO_TRAIN[-1], dtype=policy, name=f"{name}.mix")(q, k=k, v=v, segments=segments)
    ranges = pieces(q.shape[1]) if TO_TRAIN[-1] else []
    if len(ranges) < 2:
        return mixed(q, k, v)
    return ops.concatenate([mixed(q[:, i:j], k[:, :j], v[:, :j]) for i, j in ranges], 1)


def embedded(m: Decoder, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras
             ) -> "tuple[keras.layers.Layer, Tensor]":
    """(the layer of the embedding, what it makes (B, T, D) of the inputs, with their positions where none rotates)."""
    stock, masters = keras.layers, "float64" if policy == "float64" else "float32"
    # Stock tables are read in the masters' dtype, so that the rows' gradients add up in it; the next layer casts.
    if m.tied:
        embedding = layers(keras).TiedEmbedding(classes, m.width, dtype=policy, name="embedding")
    else:
        embedding = stock.Embedding(classes, m.width, dtype=masters, name="embedding")
    x = embedding(inputs["inputs"])
    if not m.rotates:
        table = stock.Embedding(inputs["inputs"].shape[1], m.width, dtype=masters, name="position")
        x = stock.Add(dtype=policy, name="embedding.sum")([x, table(inputs["positions"])])
    return embedding, x
