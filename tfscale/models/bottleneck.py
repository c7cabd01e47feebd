"""Bottleneck adapters behind the parts of a block; see `common/families/bottleneck.py`."""

from typing import Any

from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models.layers import Keras, activation, layers


def behind(m: Any, part: str, x: Tensor, policy: str, keras: Keras) -> Tensor:
    """x (B, T, D) after the adapter behind `part` of a block, "block_0.attention", where options `m` say there is
    one."""
    if not m.bottleneck:
        return x
    stock, own, name = keras.layers, layers(keras), f"{part}.adapter"
    y = own.Dense(m.bottleneck, dtype=policy, name=f"{name}.down")(x)
    y = stock.Activation(activation(m.activation), dtype=policy, name=f"{name}.activation")(y)
    y = own.Dense(m.width, dtype=policy, name=f"{name}.up")(y)
    return stock.Add(dtype=policy, name=f"{name}.residual")([x, y])
