"""Transformers that see an image as a row of patches."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from twinscale.common.errors import BadInput
from twinscale.common.families import Family, Traits
from twinscale.common.families.bottleneck import Narrowed, described, tensors
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Count, Fraction, Positive

TABLE = 0.02  # standard deviation of the first positions (Dosovitskiy et al. 2021)


class ViT(Narrowed):
    """A vision transformer (Dosovitskiy et al. 2021): patches of an image behind a class token, learned positions,
    blocks with a norm before each part, a norm and a head on the class token.

    It reads images (B, H, W, C) from 0 to 1; its blocks are the encoder's."""

    family: Literal["vit"]
    layers: PositiveInt = 4
    width: PositiveInt = 128
    heads: PositiveInt = 4
    hidden: Count = Field(0, description="width of the feed-forward layer; 0 means 4 x width")
    patch: PositiveInt = Field(4, description="side of a patch in pixels, which divides those of the image")
    norm_epsilon: Positive = 1e-12
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    pooler: bool = Field(False, description="a dense layer and tanh before the head")
    dropout: Fraction = 0.0

    @property
    def head_width(self) -> int:
        """Of queries, keys and values."""
        return self.width // self.heads

    @property
    def feedforward(self) -> int:
        """Width inside a feed-forward layer."""
        return self.hidden or 4 * self.width

    @property
    def post(self) -> bool:
        """Whether a norm follows each sum, which the encoder's blocks ask."""
        return False

    @model_validator(mode="after")
    def divides(self) -> Self:
        """The options, whose sizes divide each other; raises ValueError where they do not."""
        if self.width % self.heads:
            raise ValueError(f"model.heads={self.heads} does not divide model.width={self.width}")
        return self


def positions_of(m: ViT, example_shape: Sequence[int]) -> int:
    """The class token and the patches of an image (H, W, C). Raises BadInput where patches do not divide it."""
    height, width = example_shape[:2]
    if height % m.patch or width % m.patch:
        raise BadInput(f"model.patch={m.patch} does not divide images of {height} x {width}: take "
                       f"{math.gcd(height, width)} or what divides that, or make the images another size")
    return 1 + (height // m.patch) * (width // m.patch)


def tree_of(m: ViT, classes: int, example_shape: Sequence[int]) -> dict[str, Parameter]:
    """Names of a vision transformer. Kernels start so that they keep the size of what they read."""
    d, tree = m.width, {}

    def norm(name):
        tree[f"{name}.scale"] = Parameter((d,), constant=1.0)
        tree[f"{name}.bias"] = Parameter((d,))

    def dense(name, inputs, outputs):
        tree[f"{name}.kernel"] = Parameter((inputs, outputs), 1 / math.sqrt(inputs))
        tree[f"{name}.bias"] = Parameter((outputs,))

    pixels = m.patch, m.patch, example_shape[-1]
    tree["class_token.embedding"] = Parameter((1, d), TABLE)
    tree["patch.kernel"] = Parameter((*pixels, d), 1 / math.sqrt(math.prod(pixels)))
    tree["patch_bias.bias"] = Parameter((d,))
    tree["position.embedding"] = Parameter((positions_of(m, example_shape), d), TABLE)
    for i in range(m.layers):
        block = f"block_{i}"
        norm(f"{block}.norm_1")
        for part in ("query", "key", "value", "output"):
            dense(f"{block}.attention.{part}", d, d)
        tree |= tensors(m, block, "attention")
        norm(f"{block}.norm_2")
        dense(f"{block}.feedforward.up", d, m.feedforward)
        dense(f"{block}.feedforward.down", m.feedforward, d)
        tree |= tensors(m, block, "feedforward")
    norm("norm")
    if m.pooler:
        dense("pooler", d, d)
    dense("head", d, classes)
    return tree


def places(m: ViT, place: Callable) -> None:
    """Describes a vision transformer in forward order by calls of `place`."""
    def dropped(name, x):
        return place(f"{name}.dropout", "random bits", x) if m.dropout else x

    token = place("class_token", "embedding")
    x = place("patch_bias", "bias", place("patch", "convolution"))
    x = dropped("embedding", place("embedding.sum", "sum", x, token, place("position", "embedding"), holds=""))
    for i in range(m.layers):
        block = f"block_{i}"
        attention, feedforward = f"{block}.attention", f"{block}.feedforward"
        y = place(f"{block}.norm_1", "norm", x)
        q, k, v = (place(f"{attention}.{part}", "linear", y) for part in ("query", "key", "value"))
        shares = place(f"{attention}.shares", "softmax", place(f"{attention}.scores", "attention scores", q, k))
        y = place(f"{attention}.mix", "attention mix", shares, v)
        y = described(m, place, attention, dropped(attention, place(f"{attention}.output", "linear", y)))
        x = place(f"{block}.residual_1", "residual", x, y)
        y = place(f"{feedforward}.up", "linear", place(f"{block}.norm_2", "norm", x))
        y = place(f"{feedforward}.down", "linear", place(f"{feedforward}.activation", "activation", y))
        y = described(m, place, feedforward, dropped(feedforward, y))
        x = place(f"{block}.residual_2", "residual", x, y)
    x = place("norm", "norm", x)
    if m.pooler:
        x = place("pooler.activation", "activation", place("pooler", "linear", x), kind="tanh")
    place("head", "linear", dropped("head", x))


def flops(m: ViT, tree: Mapping[str, Parameter], classes: int, example_shape: Sequence[int], convention: str) -> int:
    """Forward operations of one image: patches' kernel at each, blocks' at the class token too, those after it once,
    and attention over all pairs, in any `convention`."""
    positions = positions_of(m, example_shape)
    times = {"patch.kernel": positions - 1, "pooler.kernel": 1, "head.kernel": 1}
    kernels = sum(math.prod(p.shape) * times.get(name, positions) for name, p in tree.items()
                  if name.endswith(".kernel"))
    return 2 * kernels + 4 * m.layers * m.width * positions * positions


def traits(m: ViT) -> Traits:
    """What others go by."""
    shared = {"model.heads": (m.heads, "tensor"), "model.hidden": (m.feedforward, "tensor"),
              "model.width": (m.width, "fsdp")}
    return Traits(activation=m.activation, norm="layer", blocks=m.layers, shared=shared, planted=("vit",))


def drawn(one: Callable) -> dict[str, Any]:
    """Options of a small transformer at random."""
    return {"layers": one(1, 1, 2), "width": 16, "heads": one(2, 4), "patch": one(2, 4), "pooler": one(False, True),
            "activation": one("gelu", "gelu_tanh", "relu"), "dropout": one(0.0, 0.1)}


FAMILY = Family(
    name="vit", options=ViT, reads="images", tree=tree_of, places=places, flops=flops, traits=traits,
    layouts="twinscale.common.families.vision_layouts:VITS", drawn=drawn)
