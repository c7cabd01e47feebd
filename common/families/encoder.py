"""Transformers that see the whole of a text: BERT and its kin."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from twinscale.common.errors import BadInput, one_of
from twinscale.common.families import Family, Traits
from twinscale.common.families.bottleneck import Narrowed, described, tensors
from twinscale.common.families.parameters import Parameter
from twinscale.common.section import Count, Fraction, Positive

if TYPE_CHECKING:
    from twinscale.common.objectives import Objective

# Whether a head is of each position.
HEADS = {"tokens": True, "sequence": False, "masked": True, "embedding": False, "next-sentence": False}
TABLE = 0.02  # standard deviation of a table's first rows (Devlin et al. 2019)


class Encoder(Narrowed):
    """A transformer encoder (Devlin et al. 2019). It reads `ids` (B, L) int32, `mask` (B, L) int32, 1 where a token is
    and 0 where padding is, and with token types `types` (B, L) int32."""

    family: Literal["encoder"]
    layers: PositiveInt = 4
    width: PositiveInt = 128
    heads: PositiveInt = 4
    hidden: Count = Field(0, description="width of the feed-forward layer; 0 means 4 x width")
    vocabulary: PositiveInt = Field(30522, description="rows of the table of tokens")
    positions: PositiveInt = Field(512, description="rows of the table of positions")
    first_position: Count = Field(0, description="row of that table which the first token reads; RoBERTa's is 2")
    types: Count = Field(0, description="rows of the table of token types; 0: there is none")
    norm: Literal["post", "pre"] = Field("post", description="norms after each sum, as in BERT, or before each part")
    norm_epsilon: Positive = 1e-12
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    head: Literal["tokens", "sequence", "masked", "embedding", "next-sentence"] = Field(
        "tokens", description="classes of each token or of a row, tokens behind a mask, a row's unit vector, or "
                              "whether a text follows another")
    outputs: Count = Field(0, description="values of head tokens or sequence; 0: the classes of the data, or "
                                          "one where labels are no classes")
    pooler: bool = Field(True, description="of head sequence: a dense layer and tanh before it")
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
        """Whether a norm follows each sum; else one stands before each part, and one before the head."""
        return one_of({"post": True, "pre": False}, self.norm, "model.norm")

    @property
    def pools(self) -> bool:
        """Whether a dense layer and tanh stand before the head."""
        return self.pooler and self.head == "sequence" or self.head == "next-sentence"

    @property
    def head_dropout(self) -> float:
        """The rate before the head; BERT's for next sentences has none."""
        return 0.0 if self.head == "next-sentence" else self.dropout

    @model_validator(mode="after")
    def divides(self) -> Self:
        """The options, whose sizes divide each other; raises ValueError where they do not."""
        if self.width % self.heads:
            raise ValueError(f"model.heads={self.heads} does not divide model.width={self.width}")
        if self.first_position >= self.positions:
            raise ValueError(f"model.first_position={self.first_position} is no row of a table of "
                             f"model.positions={self.positions}")
        return self


def outputs_of(m: Encoder, classes: int) -> int:
    """Values that the head gives of each position or row."""
    fixed = one_of({"tokens": 0, "sequence": 0, "masked": m.vocabulary, "embedding": m.width, "next-sentence": 2},
                   m.head, "model.head")
    return fixed or m.outputs or classes or 1


def length_of(example_shape: Sequence[Any]) -> int:
    """Tokens of a row, of the `example_shape` of a Dataset of arrays."""
    return next(shape[0] for name, shape, _ in example_shape if name == "ids")


def tree_of(m: Encoder, classes: int, example_shape: Sequence[Any]) -> dict[str, Parameter]:
    """Names of an encoder. Kernels start so that they keep the size of what they read, tables as BERT's."""
    d, tree = m.width, {}

    def norm(name):
        tree[f"{name}.scale"] = Parameter((d,), constant=1.0)
        tree[f"{name}.bias"] = Parameter((d,))

    def dense(name, inputs, outputs):
        tree[f"{name}.kernel"] = Parameter((inputs, outputs), 1 / math.sqrt(inputs))
        tree[f"{name}.bias"] = Parameter((outputs,))

    for name, rows in {"embedding": m.vocabulary, "position": m.positions, "token_type": m.types}.items():
        if rows:
            tree[f"{name}.embedding"] = Parameter((rows, d), TABLE)
    if m.post:
        norm("embedding_norm")
    for i in range(m.layers):
        block = f"block_{i}"
        if not m.post:
            norm(f"{block}.norm_1")
        for part in ("query", "key", "value", "output"):
            dense(f"{block}.attention.{part}", d, d)
        tree |= tensors(m, block, "attention")
        norm(f"{block}.norm_1" if m.post else f"{block}.norm_2")
        dense(f"{block}.feedforward.up", d, m.feedforward)
        dense(f"{block}.feedforward.down", m.feedforward, d)
        tree |= tensors(m, block, "feedforward")
        if m.post:
            norm(f"{block}.norm_2")
    if not m.post:
        norm("norm")
    if m.pools:
        dense("pooler", d, d)
    if m.head == "masked":
        dense("transform", d, d)
        norm("transform_norm")
        tree["head.bias"] = Parameter((m.vocabulary,))
    elif m.head != "embedding":
        dense("head", d, outputs_of(m, classes))
    return tree


def places(m: Encoder, place: Callable) -> None:
    """Describes an encoder in forward order by calls of `place`."""
    def dropped(name, x):
        return place(f"{name}.dropout", "random bits", x) if m.dropout else x

    x = place("embedding", "embedding")
    x = place("embedding.sum", "sum", x, place("position", "embedding"), holds="")
    if m.types:
        x = place("embedding.types_sum", "sum", x, place("token_type", "embedding"), holds="")
    if m.post:
        x = place("embedding_norm", "norm", x)
    x = dropped("embedding", x)
    for i in range(m.layers):
        block = f"block_{i}"
        attention, feedforward = f"{block}.attention", f"{block}.feedforward"
        y = x if m.post else place(f"{block}.norm_1", "norm", x)
        q, k, v = (place(f"{attention}.{part}", "linear", y) for part in ("query", "key", "value"))
        scores = place(f"{attention}.scores", "attention scores", q, k)
        shares = place(f"{attention}.shares", "softmax", place(f"{attention}.mask", "attention mask", scores))
        y = place(f"{attention}.mix", "attention mix", shares, v)
        y = described(m, place, attention, dropped(attention, place(f"{attention}.output", "linear", y)))
        x = place(f"{block}.residual_1", "residual", x, y)
        x, y = (2 * (place(f"{block}.norm_1", "norm", x),) if m.post else
                (x, place(f"{block}.norm_2", "norm", x)))
        y = place(f"{feedforward}.activation", "activation", place(f"{feedforward}.up", "linear", y))
        y = described(m, place, feedforward, dropped(feedforward, place(f"{feedforward}.down", "linear", y)))
        x = place(f"{block}.residual_2", "residual", x, y)
        x = place(f"{block}.norm_2", "norm", x) if m.post else x
    head_places(m, place, x if m.post else place("norm", "norm", x))


def head_places(m: Encoder, place: Callable, x: str) -> None:
    """Describes the head of an encoder, which reads the place `x`."""
    if m.head == "masked":
        y = place("transform.activation", "activation", place("transform", "linear", x))
        y = place("head.product", "linear", place("transform_norm", "norm", y), holds="embedding")
        place("head", "bias", y)
    elif m.head == "embedding":
        place("head", "norm", place("pool", "pooling", x, holds=""), holds="", kind="rms")
    else:
        if m.pools:
            x = place("pooler.activation", "activation", place("pooler", "linear", x), kind="tanh")
        place("head", "linear", place("head.dropout", "random bits", x) if m.head_dropout else x)


def flops(m: Encoder, tree: Mapping[str, Parameter], classes: int, example_shape: Sequence[Any],
          convention: str) -> int:
    """Forward operations of one example: kernels at every position, those after a row is pooled once, and attention
    over all pairs, which is what the mask may let through in any `convention`."""
    length = length_of(example_shape)
    once = ("pooler.kernel", *(() if one_of(HEADS, m.head, "model.head") else ("head.kernel",)))
    kernels = sum(math.prod(p.shape) * (1 if name in once else length) for name, p in tree.items()
                  if name.endswith(".kernel"))
    table = m.width * m.vocabulary * length if m.head == "masked" else 0
    pairs = one_of({"causal": length * length, "full": length * length}, convention, "convention")
    return 2 * (kernels + table) + 4 * m.layers * m.width * pairs


def traits(m: Encoder) -> Traits:
    """What others go by."""
    shared = {"model.heads": (m.heads, "tensor"), "model.hidden": (m.feedforward, "tensor"),
              "model.width": (m.width, "fsdp")}
    return Traits(activation=m.activation, norm="layer", blocks=m.layers, shared=shared, planted=("encoder",))


def inputs_of(m: Encoder) -> tuple[str, ...]:
    """The arrays of a batch that a model reads."""
    return ("ids", "mask", "types") if m.types else ("ids", "mask")


def check(m: Encoder, found: Mapping[str, np.ndarray], objective: "Objective", start: str) -> None:
    """Raises BadInput, which names the array of the source `start`, where rows are none that the model can read."""
    for name in inputs_of(m):
        if name not in found:
            raise BadInput(f'{start}: has no array "{name}", which model.family = "encoder" reads: give '
                           f"{', '.join(inputs_of(m))} of (rows, tokens)"
                           + (", or set model.types = 0" if name == "types" else ""))
        if found[name].dtype.kind not in "ib" or found[name].ndim != 2 or found[name].shape != found["ids"].shape:
            raise BadInput(f"{start}: {name}: is {found[name].dtype} of {found[name].shape}: whole numbers of (rows, "
                           "tokens) are wanted, for all of the same shape")
    length = found["ids"].shape[1]
    if length + m.first_position > m.positions:
        raise BadInput(f"{start}: ids: {length} tokens a row are more than the table of "
                       f"model.positions={m.positions} has" + (f" from row {m.first_position} on" if m.first_position
                                                                 else "") + ": cut the rows, or raise it")
    for name, rows in {"ids": ("vocabulary", m.vocabulary), "types": ("types", m.types)}.items():
        if name in inputs_of(m):
            check_range(found[name], rows[1], f"{start}: {name}", f"model.{rows[0]}")
    check_mask(found["mask"], f"{start}: mask")
    check_labels(m, found, objective, start)


def check_range(x: np.ndarray, rows: int, start: str, key: str) -> None:
    """Raises BadInput where whole numbers (rows, tokens) are no rows of a table."""
    outside = (x < 0) | (x >= rows)
    if outside.any():
        row = int(outside.any(1).argmax())
        raise BadInput(f"{start}: holds {x[row][outside[row]][0]} in row {row}, but the table of {key}={rows} has rows "
                       f"0 to {rows - 1}: the vocabulary is another one's, or {key} has to be {int(x.max()) + 1} or "
                       "more")


def check_mask(mask: np.ndarray, start: str) -> None:
    """Raises BadInput where a mask (rows, tokens) holds others than 0 and 1, or a row nothing but padding."""
    if ((mask != 0) & (mask != 1)).any():
        raise BadInput(f"{start}: holds others than 0 and 1: give 1 where a token is, 0 where padding is")
    if not (kept := mask.any(1)).all():
        raise BadInput(f"{start}: row {int(kept.argmin())} is padding alone: leave out the {int((~kept).sum()):,} rows "
                       "like it")


def check_labels(m: Encoder, found: Mapping[str, np.ndarray], objective: "Objective", start: str) -> None:
    """Raises BadInput where labels do not fit the head."""
    labels, shape, head = found["labels"], found["ids"].shape, f'model.head = "{m.head}"'
    if not objective.labels:
        return
    if m.head == "embedding" and not objective.judged:
        raise BadInput(f'{head}: gives a vector of each row and no classes, which objective "{objective.title}" is of: '
                       'set objective.name = "probe" or "squared-error", or model.head = "sequence"')
    wanted, given = shape if one_of(HEADS, m.head, "model.head") else shape[:1], outputs_of(m, 0)
    if labels.shape[:len(wanted)] != wanted or not objective.judged and labels.shape != wanted:
        raise BadInput(f"{start}: labels: are of {labels.shape}, but {head} wants {wanted}: a label for each "
                       + ("token" if len(wanted) > 1 else "row"))
    if m.head == "next-sentence" and (objective.judged or labels.max() > 1):
        raise BadInput(f"{start}: labels: {head} has the classes 0, a text that follows, and 1: take \"sequence\"")
    key = "model.vocabulary" if m.head == "masked" else "model.outputs"
    if not objective.judged and given > 1 and labels.max() >= given:
        raise BadInput(f"{start}: labels: go up to {labels.max()}, but {key}={given}: raise it; where nothing is to be "
                       "said, give label 0 and weight 0")
    if objective.judged and labels.shape not in ((*wanted, given), wanted if given == 1 else None):
        raise BadInput(f"{start}: labels: are of {labels.shape}, but {head} gives {given} of {wanted}: set "
                       f"model.outputs = {labels.shape[-1] if labels.shape != wanted else 1}")


def stress(m: Encoder, batch: Mapping[str, np.ndarray], classes: int, drawn: np.random.Generator
           ) -> dict[str, np.ndarray]:
    """Arrays of a stress batch: of four rows one of the lowest and the highest id by turns and no padding, one of a
    single token, one with padding before, between and after its tokens that is ignored, one drawn. Padding holds ids
    that are drawn too: nothing may depend on them."""
    rows, length = batch["ids"].shape
    ids, mask = drawn.integers(0, m.vocabulary, (rows, length)), np.ones((rows, length), np.int32)
    number, column = np.arange(rows), np.arange(length)
    ids[number % 4 == 0] = column % 2 * (m.vocabulary - 1)
    mask[number % 4 == 1, 1:] = 0
    scattered = drawn.random((rows, length)) < 0.5
    scattered[:, length // 2] = True
    mask[number % 4 == 2] = scattered[number % 4 == 2]
    found: dict[str, np.ndarray] = {"ids": ids, "mask": mask}
    if m.types:
        found["types"] = drawn.integers(0, m.types, (rows, length))
    labels, weights = batch["labels"], batch["weights"].copy()
    if labels.dtype.kind == "i" and classes:
        found["labels"] = drawn.integers(0, classes, labels.shape)
        found["labels"][0], found["labels"][1::4] = 0, classes - 1
    if weights.ndim > 1:
        weights = np.broadcast_to(mask.reshape(mask.shape + (1,) * (weights.ndim - 2)), weights.shape).copy()
    weights[2::4] = 0
    return found | {"weights": weights if weights.any() else batch["weights"]}


def drawn(one: Callable) -> dict:
    """Options of a small encoder at random."""
    return {"layers": one(1, 1, 2), "width": 16, "heads": one(2, 4), "vocabulary": 40, "positions": one(12, 16),
            "first_position": one(0, 0, 2), "types": one(0, 2), "norm": one("post", "post", "pre"),
            "activation": one("gelu", "gelu_tanh", "relu"), "head": one("tokens", "sequence", "masked"),
            "pooler": one(True, True, False), "dropout": one(0.0, 0.1)}


def rows_of(m: Encoder) -> dict[str, dict]:
    """The arrays that a small encoder is trained on, as `data.inputs` of the source `random` says them."""
    length = m.positions - m.first_position
    below = {"masked": m.vocabulary, "next-sentence": 2}.get(m.head, 3)
    positions = [length] if one_of(HEADS, m.head, "model.head") else []
    found: dict[str, dict] = {"ids": {"shape": [length], "below": m.vocabulary},
                              "mask": {"shape": [length], "padding": True},
                              "labels": {"shape": positions, "below": below}}
    if m.types:
        found["types"] = {"shape": [length], "below": m.types}
    if positions:
        found["weights"] = {"shape": [length], "padding": True, "dtype": "float32"}
    return found


FAMILY = Family(
    name="encoder", options=Encoder, reads="arrays", tree=tree_of, places=places, flops=flops, traits=traits,
    layouts="twinscale.common.families.encoder_layouts:ENCODERS", inputs=inputs_of, check=check, stress=stress,
    rows=rows_of, drawn=drawn)
