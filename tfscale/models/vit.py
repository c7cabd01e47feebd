"""A vision transformer as a functional Keras graph; a layer's name is its canonical name."""

from collections.abc import Mapping

from twinscale.common.families.vit import ViT, positions_of
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.encoder import dropped, through_blocks
from twinscale.tfscale.models.layers import Keras, activation, layers


def build(m: ViT, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """Logits (B, classes) of a dict of inputs: `inputs` (B, H, W, C), and where used `row` and `key`."""
    stock, own = keras.layers, layers(keras)
    x = dropped(m, "embedding.dropout", embedded(m, inputs["inputs"], policy, keras), inputs, policy, keras)
    x = through_blocks(m, x, inputs, policy, keras)
    x = own.LayerNormalization(epsilon=m.norm_epsilon, dtype=policy, name="norm")(x)
    x = own.First(dtype=policy, name="first")(x)
    if m.pooler:
        x = own.Dense(m.width, dtype=policy, name="pooler")(x)
        x = stock.Activation(activation("tanh"), dtype=policy, name="pooler.activation")(x)
    logits = own.Dense(classes, dtype=policy, name="head")(dropped(m, "head.dropout", x, inputs, policy, keras))
    return stock.Activation("linear", dtype="float64" if policy == "float64" else "float32", name="logits")(logits)


def embedded(m: ViT, images: Tensor, policy: str, keras: Keras) -> Tensor:
    """The class token and the patches (B, 1 + patches, D) of images (B, H, W, C), each with its position."""
    stock, own, masters = keras.layers, layers(keras), "float64" if policy == "float64" else "float32"
    count = positions_of(m, images.shape[1:])

    def table(rows, name):  # read in the masters' dtype, so that the rows' gradients add up in it; the next layer casts
        places = own.Places(rows, dtype=masters, name=f"{name}.places")(images)
        return stock.Embedding(rows, m.width, dtype=masters, name=name)(places)

    token = table(1, "class_token")
    x = stock.Conv2D(m.width, m.patch, m.patch, use_bias=False, dtype=policy, name="patch")(images)
    x = own.Bias(dtype=policy, name="patch_bias")(x)
    x = stock.Reshape((count - 1, m.width), dtype=policy, name="patches")(x)
    x = stock.Concatenate(1, dtype=policy, name="tokens")([token, x])
    return stock.Add(dtype=policy, name="embedding.sum")([x, table(count, "position")])
