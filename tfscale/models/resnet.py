"""A residual network of the usual sizes as a functional Keras graph; a layer's name is its canonical name."""

from collections.abc import Mapping

from twinscale.common.families.resnet import POOLED, ResNet, blocks_of, norm_of, stem_of
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.layers import Keras, layers


def build(m: ResNet, classes: int, inputs: Mapping[str, Tensor], policy: str, keras: Keras) -> Tensor:
    """Logits (B, classes) of a dict of inputs: `inputs` (B, H, W, C), and where used `row` and `key`."""
    stock, own = keras.layers, layers(keras)

    def normed(above, of, x):
        name, around = f"{above}.{of.name}", of.size // 2
        if around:  # as much before as behind, which "same" has not where the stride is 2
            x = stock.ZeroPadding2D(around, dtype=policy, name=f"{name}.zeros")(x)
        x = stock.Conv2D(of.outputs, of.size, of.stride, use_bias=False, dtype=policy, name=name)(x)
        return own.BatchNormalization(epsilon=m.norm_epsilon, momentum=m.norm_momentum, dtype=policy,
                                      name=f"{above}.{norm_of(of.name)}")(x)

    def relu(name, x):
        return stock.Activation("relu", dtype=policy, name=name)(x)

    x = relu("stem.relu", normed("stem", stem_of(m, inputs["inputs"].shape[-1]), inputs["inputs"]))
    x = own.MaxPooling(*POOLED, dtype=policy, name="stem.pool")(x) if m.pools else x
    for block in blocks_of(m):
        y = x
        for i, of in enumerate(block.convs, 1):
            y = normed(block.name, of, y)
            y = relu(f"{block.name}.relu_{i}", y) if i < len(block.convs) else y
        x = normed(block.name, block.shortcut, x) if block.shortcut else x
        x = stock.Add(dtype=policy, name=f"{block.name}.residual")([x, y])
        x = relu(f"{block.name}.relu_{len(block.convs)}", x)
    x = own.GlobalAveragePooling2D(dtype=policy, name="pool")(x)
    if m.dropout:
        x = own.SharedDropout(m.dropout, dtype=policy, name="pool.dropout")(x, row=inputs["row"], key=inputs["key"])
    logits = own.Dense(classes, dtype=policy, name="head")(x)
    wide = "float64" if policy == "float64" else "float32"
    return stock.Activation("linear", dtype=wide, name="logits")(logits)
