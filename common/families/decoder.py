"""Transformers on text."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from twinscale.common.errors import one_of
from twinscale.common.families import Attention, Family, Traits
from twinscale.common.families.bottleneck import Narrowed, described, tensors
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Count, Fraction, Positive


class Decoder(Narrowed):
    """A pre-norm transformer decoder (Radford et al. 2019; Touvron et al. 2023 for the rotary/RMS/SwiGLU variant)."""

    family: Literal["decoder"]
    layers: PositiveInt = 4
    width: PositiveInt = 128
    heads: PositiveInt = 4
    kv_heads: Count = Field(0, description="key/value heads (grouped-query attention); 0 means heads")
    hidden: Count = Field(0, description="width of the feed-forward layer; 0 means 4 x width")
    norm: Literal["layer", "rms"] = "layer"
    norm_epsilon: Positive = 1e-5
    positions: Literal["learned", "rotary"] = "learned"
    rotary_base: Positive = 10000.0
    activation: Literal["gelu", "gelu_tanh", "swiglu"] = "gelu"
    bias: bool = True
    tied: bool = Field(True, description="the head shares the embedding's table")
    dropout: Fraction = 0.0

    @property
    def head_width(self) -> int:
        """Of queries, keys and values."""
        return self.width // self.heads

    @property
    def kv(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def feedforward(self) -> int:
        """Width inside a feed-forward layer."""
        return self.hidden or 4 * self.width

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer multiplies by a gate, which has a kernel of its own."""
        return one_of({"gelu": False, "gelu_tanh": False, "swiglu": True}, self.activation, "model.activation")

    @property
    def rotates(self) -> bool:
        """Whether positions rotate queries and keys; else a table of positions is learned."""
        return one_of({"learned": False, "rotary": True}, self.positions, "model.positions")

    @model_validator(mode="after")
    def divides(self) -> Self:
        """The options, whose sizes divide each other; raises ValueError where they do not."""
        if self.width % self.heads:
            raise ValueError(f"model.heads={self.heads} does not divide model.width={self.width}")
        if self.heads % self.kv:
            raise ValueError(f"model.kv_heads={self.kv} does not divide model.heads={self.heads}")
        if self.rotates and self.head_width % 2:
            raise ValueError("rotary positions need an even head width, but model.width / model.heads = "
                             f"{self.head_width}")
        return self


PIECES, LEAST = 4, 32  # of causal attention's queries, and the fewest positions that a piece has


def pieces(length: int) -> list[tuple[int, int]]:
    """Ranges of so many positions whose queries go through causal attention one after another, with the keys up to
    their last: of four ranges, 3 in 8 of all products and shares are never computed. One where they are few."""
    count = PIECES if length % PIECES == 0 and length >= PIECES * LEAST else 1
    return list(itertools.pairwise(range(0, length + 1, length // count)))


def tree_of(m: Decoder, classes: int, example_shape: Sequence[int]) -> dict[str, Parameter]:
    """Names of a decoder; residual outputs start smaller by sqrt(2 x layers) (Radford et al. 2019, section 2.3)."""
    d, tree = m.width, {}

    def norm(name):
        tree[f"{name}.scale"] = Parameter((d,), constant=1.0)
        if one_of({"layer": m.bias, "rms": False}, m.norm, "model.norm"):
            tree[f"{name}.bias"] = Parameter((d,))

    def dense(name, inputs, outputs, shrink=1.0):
        tree[f"{name}.kernel"] = Parameter((inputs, outputs), shrink / math.sqrt(inputs))
        if m.bias:
            tree[f"{name}.bias"] = Parameter((outputs,))

    tree["embedding.embedding"] = Parameter((classes, d), 0.02)
    if not m.rotates:
        tree["position.embedding"] = Parameter((example_shape[0], d), 0.02)
    shrink = 1 / math.sqrt(2 * m.layers)
    for i in range(m.layers):
        block = f"block_{i}"
        norm(f"{block}.norm_1")
        dense(f"{block}.attention.query", d, m.heads * m.head_width)
        dense(f"{block}.attention.key", d, m.kv * m.head_width)
        dense(f"{block}.attention.value", d, m.kv * m.head_width)
        dense(f"{block}.attention.output", m.heads * m.head_width, d, shrink)
        tree |= tensors(m, block, "attention")
        norm(f"{block}.norm_2")
        if m.gated:
            dense(f"{block}.feedforward.gate", d, m.feedforward)
        dense(f"{block}.feedforward.up", d, m.feedforward)
        dense(f"{block}.feedforward.down", m.feedforward, d, shrink)
        tree |= tensors(m, block, "feedforward")
    norm("norm")
    if not m.tied:
        tree["head.kernel"] = Parameter((d, classes), 1 / math.sqrt(d))
    return tree


def places(m: Decoder, place: Callable) -> None:
    """Describes a decoder in forward order by calls of `place`."""
    def rotated(name):
        return place(f"{name}.rotary", "rotary positions", name) if m.rotates else name

    def dropped(name, x):
        return place(f"{name}.dropout", "random bits", x) if m.dropout else x

    x = place("embedding", "embedding")
    if not m.rotates:
        x = place("embedding.sum", "sum", x, place("position", "embedding"), holds="")
    x = dropped("embedding", x)
    for i in range(m.layers):
        block = f"block_{i}"
        attention, feedforward = f"{block}.attention", f"{block}.feedforward"
        y = place(f"{block}.norm_1", "norm", x)
        q, k, v = (place(f"{attention}.{part}", "linear", y) for part in ("query", "key", "value"))
        q, k = rotated(q), rotated(k)
        scores = place(f"{attention}.scores", "attention scores", q, k)
        shares = place(f"{attention}.shares", "softmax", place(f"{attention}.mask", "attention mask", scores))
        y = place(f"{attention}.mix", "attention mix", shares, v)
        y = described(m, place, attention, dropped(attention, place(f"{attention}.output", "linear", y)))
        x = place(f"{block}.residual_1", "residual", x, y)
        y = place(f"{block}.norm_2", "norm", x)
        up = place(f"{feedforward}.up", "linear", y)
        if m.gated:
            gate = place(f"{feedforward}.activation", "activation", place(f"{feedforward}.gate", "linear", y))
            y = place(f"{feedforward}.gated", "gate", gate, up)
        else:
            y = place(f"{feedforward}.activation", "activation", up)
        y = described(m, place, feedforward, dropped(feedforward, place(f"{feedforward}.down", "linear", y)))
        x = place(f"{block}.residual_2", "residual", x, y)
    place("head", "linear", place("norm", "norm", x), holds="embedding" if m.tied else "head")


def flops(m: Decoder, tree: Mapping[str, Parameter], classes: int, example_shape: Sequence[int],
          convention: str) -> int:
    """Forward operations of one example: kernels at every position, and attention over the pairs that
    `convention` counts."""
    length = example_shape[0]
    kernels = sum(math.prod(p.shape) for name, p in tree.items() if name.endswith(".kernel"))
    head = m.width * classes if m.tied else 0
    seen = {"causal": length * (length + 1) // 2, "full": length * length}
    pairs = one_of(seen, convention, "convention")
    return 2 * length * (kernels + head) + 4 * m.layers * m.heads * m.head_width * pairs


def traits(m: Decoder) -> Traits:
    """What others go by."""
    shared = {"model.heads": (m.heads, "tensor"), "model.hidden": (m.feedforward, "tensor"),
              "model.width": (m.width, "fsdp")}
    return Traits(activation=m.activation, norm=m.norm, blocks=m.layers,
                  attention=Attention(m.heads, m.kv, m.head_width), shared=shared, planted=("decoder",))


def drawn(one: Callable) -> dict:
    """Options of a small decoder at random."""
    heads = one(2, 4)
    return {"layers": one(1, 1, 2), "width": 16, "heads": heads, "kv_heads": one(0, 0, heads // 2),
            "norm": one("layer", "rms"), "positions": one("learned", "rotary"),
            "activation": one("gelu", "gelu_tanh", "swiglu"), "bias": one(True, True, False), "tied": one(True, False),
            "dropout": one(0.0, 0.1)}


FAMILY = Family(
    name="decoder", options=Decoder, reads="text", tree=tree_of, places=places, flops=flops,
    traits=traits, layouts="twinscale.common.families.layouts:DECODERS", drawn=drawn)
