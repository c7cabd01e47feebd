"""A transformer encoder as a functional Keras graph; a layer's name is its canonical name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import one_of
from twinscale.common.families.encoder import HEADS, Encoder, outputs_of
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.bottleneck import behind
from twinscale.tfscale.models.layers import Keras, activation, layers

if TYPE_CHECKING:
    import keras


def build(m: Encoder, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """Logits (B, L, classes) or (B, classes), or vectors (B, D), of a dict of inputs: `ids`, `mask`, and where used
    `types`, `row` and `key`."""
    stock, own = keras.layers, layers(keras)
    masters = "float64" if policy == "float64" else "float32"

    def dense(name, x, outputs):
        return own.Dense(outputs, dtype=policy, name=name)(x)

    def norm(name, x):
        return own.LayerNormalization(epsilon=m.norm_epsilon, dtype=policy, name=name)(x)

    embedding, x = embedded(m, inputs, policy, keras)
    x = norm("embedding_norm", x) if m.post else x
    x = through_blocks(m, dropped(m, "embedding.dropout", x, inputs, policy, keras), inputs, policy, keras)
    x = x if m.post else norm("norm", x)
    if m.head == "masked":
        act = stock.Activation(activation(m.activation), dtype=policy, name="transform.activation")
        logits = embedding(norm("transform_norm", act(dense("transform", x, m.width))), reverse=True)
        logits = own.Bias(dtype=policy, name="head")(logits)
    elif m.head == "embedding":
        logits = own.Unit(dtype=policy, name="head")(own.MeanOver(dtype=policy, name="pool")(x, kept=inputs["mask"]))
    else:
        if not one_of(HEADS, m.head, "model.head"):
            x = own.First(dtype=policy, name="first")(x)
        if m.pools:
            act = stock.Activation(activation("tanh"), dtype=policy, name="pooler.activation")
            x = act(dense("pooler", x, m.width))
        x = dropped(m, "head.dropout", x, inputs, policy, keras) if m.head_dropout else x
        logits = dense("head", x, outputs_of(m, classes))
    return stock.Activation("linear", dtype=masters, name="logits")(logits)


def embedded(m: Encoder, inputs: Mapping[str, Tensor], policy: str, keras: Keras
             ) -> "tuple[keras.layers.Layer, Tensor]":
    """(the layer of the table of tokens, the sum (B, L, D) of what the tables hold for the inputs)."""
    stock, own, masters = keras.layers, layers(keras), "float64" if policy == "float64" else "float32"
    # Stock tables are read in the masters' dtype, so that the rows' gradients add up in it; the next layer casts.
    if m.head == "masked":
        embedding = own.TiedEmbedding(m.vocabulary, m.width, dtype=policy, name="embedding")
        embedding.reverse_place = "head.product"
    else:
        embedding = stock.Embedding(m.vocabulary, m.width, dtype=masters, name="embedding")
    places = own.Positions(m.first_position, dtype=masters, name="positions")(inputs["ids"])
    table = stock.Embedding(m.positions, m.width, dtype=masters, name="position")
    x = stock.Add(dtype=policy, name="embedding.sum")([embedding(inputs["ids"]), table(places)])
    if m.types:
        table = stock.Embedding(m.types, m.width, dtype=masters, name="token_type")
        x = stock.Add(dtype=policy, name="embedding.types_sum")([x, table(inputs["types"])])
    return embedding, x


def through_blocks(m: Any, x: Tensor, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """x (B, L, D) after all blocks, of an encoder's options or of what has the same; `inputs` may have a `mask`."""
    stock, own = keras.layers, layers(keras)
    masters = "float64" if policy == "float64" else "float32"

    def dense(name, x, outputs):
        return own.Dense(outputs, dtype=policy, name=name)(x)

    def norm(name, x):
        return own.LayerNormalization(epsilon=m.norm_epsilon, dtype=policy, name=name)(x)

    def heads(name, x):
        shape = x.shape[1], m.heads, m.head_width
        return stock.Reshape(shape, dtype=policy, name=f"{name}.heads")(dense(name, x, m.width))

    def attention(name, x):
        q, k, v = (heads(f"{name}.{part}", x) for part in ("query", "key", "value"))
        scores = own.AttentionScores(dtype=policy, name=f"{name}.scores")(q, k=k)
        if "mask" in inputs:
            scores = own.PaddingMask(dtype=masters, name=f"{name}.mask")(scores, kept=inputs["mask"])
        shares = stock.Softmax(dtype=masters, name=f"{name}.shares")(scores)
        return dense(f"{name}.output", own.AttentionMix(dtype=policy, name=f"{name}.mix")(shares, v=v), m.width)

    def feedforward(name, x):
        act = stock.Activation(activation(m.activation), dtype=policy, name=f"{name}.activation")
        return dense(f"{name}.down", act(dense(f"{name}.up", x, m.feedforward)), m.width)

    for i in range(m.layers):
        block = f"block_{i}"
        y = attention(f"{block}.attention", x if m.post else norm(f"{block}.norm_1", x))
        y = dropped(m, f"{block}.attention.dropout", y, inputs, policy, keras)
        y = behind(m, f"{block}.attention", y, policy, keras)
        x = stock.Add(dtype=policy, name=f"{block}.residual_1")([x, y])
        x = norm(f"{block}.norm_1", x) if m.post else x
        y = feedforward(f"{block}.feedforward", x if m.post else norm(f"{block}.norm_2", x))
        y = dropped(m, f"{block}.feedforward.dropout", y, inputs, policy, keras)
        y = behind(m, f"{block}.feedforward", y, policy, keras)
        x = stock.Add(dtype=policy, name=f"{block}.residual_2")([x, y])
        x = norm(f"{block}.norm_2", x) if m.post else x
    return x


def dropped(m: Any, name: str, x: Tensor, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """x after dropout at the place `name`, where there is any."""
    if not m.dropout:
        return x
    return layers(keras).SharedDropout(m.dropout, dtype=policy, name=name)(x, row=inputs["row"], key=inputs["key"])
