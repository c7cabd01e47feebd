"""A small residual network with batch norm as a functional Keras graph; a layer's name is its canonical name."""

from collections.abc import Mapping

from twinscale.common.families.convnet import ConvNet, convnet_blocks
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.layers import Keras, layers


def build(m: ConvNet, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """Logits (B, classes) of a dict of inputs: `inputs` (B, H, W, C), and where used `row` and `key`."""
    stock, own = keras.layers, layers(keras)

    def conv(name, x, channels, size=3, stride=1):
        return stock.Conv2D(channels, size, stride, padding="same", use_bias=False, dtype=policy, name=name)(x)

    def norm(name, x):
        return own.BatchNormalization(epsilon=m.norm_epsilon, momentum=m.norm_momentum, dtype=policy, name=name)(x)

    def relu(name, x):
        return stock.Activation("relu", dtype=policy, name=name)(x)

    x = relu("stem.relu", norm("stem.norm", conv("stem.conv", inputs["inputs"], m.channels[0])))
    for block in convnet_blocks(m):
        name = block.name
        y = conv(f"{name}.conv_1", x, block.outputs, stride=block.stride)
        y = relu(f"{name}.relu_1", norm(f"{name}.norm_1", y))
        y = norm(f"{name}.norm_2", conv(f"{name}.conv_2", y, block.outputs))
        if block.projects:
            x = conv(f"{name}.shortcut", x, block.outputs, size=1, stride=block.stride)
        x = relu(f"{name}.relu_2", stock.Add(dtype=policy, name=f"{name}.residual")([x, y]))
    x = own.GlobalAveragePooling2D(dtype=policy, name="pool")(x)
    if m.dropout:
        x = own.SharedDropout(m.dropout, dtype=policy, name="pool.dropout")(x, row=inputs["row"], key=inputs["key"])
    logits = own.Dense(classes, dtype=policy, name="head")(x)
    wide = "float64" if policy == "float64" else "float32"
    return stock.Activation("linear", dtype=wide, name="logits")(logits)
