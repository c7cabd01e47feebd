"""Every operation of a model in its place: what a backend makes there of given numbers, beside what float64 makes of
the same, within the bounds of `common/operations/rounding.py`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data.arrays import row_size
from twinscale.common.families import traits_of
from twinscale.common.families.adapters import is_adapter
from twinscale.common.families.parameters import parameters
from twinscale.common.families.places import WHOLE, places
from twinscale.common.numbers.formats import walk
from twinscale.common.objectives import Objective, described
from twinscale.common.operations.catalogue import UNARY
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.references import FORMATS
from twinscale.common.operations.rounding import (
    Bound,
    backward_bound,
    beside,
    error,
    forward_bound,
    scores_size,
    together,
)

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

WIDE = ("attention scores", "attention mask", "softmax")  # operations that bfloat16 leaves in float32
PRODUCTS = {"linear", "convolution", "attention scores", "attention mix", "pooling"}
LOWEST = -1e30  # scores below are masked
ROWS, POSITIONS = 4, 1024  # of a batch that places are read on, at most: each keeps its tensors


def few(batch: Mapping[str, Any], example_shape: Sequence[Any]) -> dict[str, Any]:
    """The first rows of a batch, as many as places are read on."""
    rows = max(1, min(ROWS, len(batch["row"]), POSITIONS // row_size(example_shape)))
    return {name: x[:rows] for name, x in batch.items()}


def is_taught(teacher: Mapping[str, Any] | None, place: str, x: Any) -> bool:
    """Whether a place whose output is `x` can go on with a teacher's numbers: it has some, of the same shape. Where one
    backend has another shape, as after a stride elsewhere, nothing could be computed with them: its own shows that."""
    taught = None if teacher is None else teacher.get(f"forward/{place}")
    if taught is None or len(taught.shape) != len(x.shape):
        return False
    return all(None in pair or pair[0] == pair[1] for pair in zip(taught.shape, x.shape, strict=True))


def rounded_taps(model: Any, tensors: Mapping[str, np.ndarray], precision: str) -> dict[str, np.ndarray]:
    """Tensors of `common.training.trace.step_taps` in values of a precision; what is computed wide in bfloat16 is
    float32's."""
    wide = {name for name, place in places(model).items() if place.operation in WIDE}

    def format_of(key):
        narrow = key.startswith(("forward/", "backward/")) and key.partition("/")[2] not in wide
        return FORMATS[precision if narrow or precision != "bfloat16" else "float32"]

    with np.errstate(over="ignore"):  # a masked score is float64's lowest
        return {key: rounded(x, format_of(key)) for key, x in tensors.items()}


def place_rows(recipe: "Recipe", dataset: "Dataset", tensors: tuple, precision: str, blocks: bool = False,
               quanta: Mapping[str, tuple[Any, Any]] = MappingProxyType({})) -> list[dict[str, Any]]:
    """What a backend makes at every place of given numbers, judged.

    Args:
      recipe, dataset: what the model is of.
      tensors: (the tensors of `common.training.trace.step_taps` that every place was fed with, what the backend made of
        them in `precision`, what float64 made of them).
      blocks: sums are of blocks that are each rounded to bfloat16, as TensorFlow's kernels without XLA have them.
      quanta: {tensor: (how far products in 8 bits carry each value, how far it may be off besides)}, as
        `common.operations.quantised.quanta` has them.
    Returns: a list of {"place", "operation", "way" (the group of the tensor: "forward" and so on), "tensor", "error"
      and "bound" in eps of the precision, "beside" and "rare": shares of values that are not the nearest, and how many
      may be, or None}.
    """
    given, found, wanted = tensors
    wanted = dict(wanted) | {key: wanted[key] + far for key, (far, _) in quanta.items() if key in wanted}
    known = places(recipe.model)
    derived = {name: place for name, place in known.items() if place.operation != WHOLE}
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    rows, classes = [], given["forward/head"].shape[-1]  # those of the data may be fewer

    def add(name, way, key, bound, source=None):
        operation = known[name].operation if name in known else name
        if blocks and way == "gradients":
            bound = blockwise(bound, given[f"forward/{name}"].size)
        elif blocks and PRODUCTS & ({operation} if way == "forward" else {known[n].operation for n in readers_of(
                known, name)}):
            bound = blockwise(bound)
        x, y = found.get(key), wanted.get(key)
        if operation == "attention mask" and x is not None and y is not None and np.shape(x) == np.shape(y):
            x, y = unmasked(x, y)
        worst, limit = (math.inf, 0.0) if x is None or y is None else error(
            x, y, bound, precision, source, quanta.get(key, (0.0, 0.0))[1])
        row = {"place": name, "operation": operation, "way": way, "tensor": key, "error": worst, "bound": limit,
               "beside": None, "rare": None}
        if precision == "bfloat16" and way == "forward" and bound.narrow == 0.5 and rounds_last(known[name]):
            row["beside"], row["rare"] = beside(x, y, bound, source) if np.isfinite(worst) else (1.0, 0.0)
        rows.append(row)

    for name, place in derived.items():
        source = given[f"forward/{place.reads[0]}"] if place.reads else None
        add(name, "forward", f"forward/{name}", forward_bound(place.operation, forward_terms(name, place, tree, given),
                                                              kind_of(place, recipe.model, tree)), source=source)
    for name in known:
        readers = readers_of(known, name)
        bounds = [cancelling(backward_bound(known[n].operation, backward_terms(n, known[n], tree, given),
                                            kind_of(known[n], recipe.model, tree)),
                             summed(name, n, known[n], tree, given), wanted.get(f"backward/{name}")) for n in readers]
        add(name, "backward", f"backward/{name}", together(bounds or [backward_bound("loss", classes)]))
    for key in (key for key in found if derived and key.startswith(("gradients/", "running/"))):
        if is_adapter(key):  # of no place: its kernel's gradient is judged here, and P2 judges what comes of it
            continue
        add(*gradient(key, known, given, wanted))
    for key, bound in loss_bounds(given, classes, described(recipe)).items():
        add("loss", "loss", key, bound)
    return rows


def blockwise(bound: Bound, values: int = 0) -> Bound:
    """A Bound where bfloat16 sums are of rounded blocks: one rounding more, and for a sum of `values` over positions,
    which TensorFlow adds up in bfloat16, a walk of them."""
    if not bound.narrow:
        return bound
    return replace(bound, narrow=bound.narrow + (walk(values) if values and bound.least else 0.5))


def cancelling(bound: Bound, size: float, wanted: Any) -> Bound:
    """A Bound where terms of a size are each rounded to bfloat16 before they are added up to `wanted`: all its
    roundings but the last are of the terms, and these may be larger than what is left of them."""
    if not size or not bound.narrow:
        return bound
    last = 0.5 / bound.narrow
    return replace(bound, least=max(bound.least, last * largest(wanted) + (1 - last) * size))


def readers_of(known: Mapping[str, Any], name: str) -> list[str]:
    """The places that read a place."""
    return [n for n, place in known.items() if name in place.reads]


def loss_bounds(given: Mapping[str, np.ndarray], classes: int, objective: Objective) -> dict[str, Bound]:
    """{"loss/SUM": Bound}: weights, and of classes hits, are counted; each position's loss is of logits that may
    cancel, and where an objective adds up outputs by factors, all of them may. One of the user's own may be of other
    size than its logits: its terms are then as large as their sum."""
    logits = given["forward/head"]
    positions = logits.size // classes
    size = (logits.size * objective.adds or positions) * largest(logits)
    if objective.theirs and "loss/loss" in given:
        size = max(size, float(np.abs(given["loss/loss"])))
    wide = 2 * UNARY + walk(classes) + walk(positions) + 4
    counted = ("loss/weight",) if objective.judged else ("loss/weight", "loss/correct")
    return dict.fromkeys(counted, Bound(1, 0.0)) | {"loss/loss": Bound(wide, 0.0, least=size)}


def gradient(key: str, known: Mapping[str, Any], given: Mapping[str, np.ndarray], wanted: Any) -> tuple:
    """(place, way, key, Bound) of the gradient of a tensor, or of a running statistic."""
    way, tensor = key.split("/", 1)
    holder, leaf = tensor.rpartition(".")[::2]
    holding = [name for name, place in known.items() if place.holds == holder]
    outputs = [given[f"forward/{name}"] for name in holding]
    positions = max(x.size // x.shape[-1] for x in outputs)
    if way == "running":
        return holding[0], way, key, Bound(2 * walk(positions) + 4, 0.0, least=max(map(largest, outputs)))
    kinds = [backward_bound(known[name].operation, positions) for name in holding]
    size = max(largest(wanted[k]) for k in wanted if k.startswith(f"gradients/{holder}.") and not is_adapter(k))
    if leaf not in ("kernel", "embedding"):  # a sum over positions, which may cancel: a key's bias moves no loss
        arriving = (np.abs(np.asarray(given[f"backward/{name}"], np.float64)) for name in holding)
        size = max(size, *(float(x.reshape(-1, x.shape[-1]).sum(0).max()) for x in arriving))
    return holding[0], way, key, replace(together(kinds), of="largest", least=size)


def summed(name: str, reader: str, place: Any, tree: Mapping[str, Any], given: Mapping[str, np.ndarray]) -> float:
    """The size of what a reader, a place, adds up to the cotangent of the place `name`, where it is known to cancel: of
    scores, whose cotangents behind a softmax add up to 0 over the keys, and of a batch norm, which takes off the mean
    of what arrives and its share along the output; else 0."""
    arriving = given[f"backward/{reader}"]
    if place.operation == "attention scores":
        q, k = (given[f"forward/{read}"] for read in place.reads)
        return scores_size(np.asarray(arriving, np.float64), q, k, by=place.reads.index(name))
    if place.operation != "norm" or f"{place.holds}.mean" not in tree:
        return 0.0
    out, x, arriving = (np.asarray(part, np.float64).reshape(-1, arriving.shape[-1]) for part in (
        given[f"forward/{reader}"], given[f"forward/{name}"], arriving))
    gain = out.std(0) / np.maximum(x.std(0), FORMATS["float64"].tiny)  # gamma / sqrt(variance + epsilon)
    return largest(gain * np.abs(arriving).max(0))


def unmasked(found: Any, wanted: Any) -> tuple:
    """Both with 0 for a masked score, of which each precision has its own; not finite where one alone is masked."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    same = (found < LOWEST) == (wanted < LOWEST)
    return np.where(same, np.where(found < LOWEST, 0, found), np.nan), np.where(wanted < LOWEST, 0, wanted)


def largest(x: Any) -> float:
    """The largest magnitude of an array."""
    return float(np.abs(np.asarray(x, np.float64)).max(initial=0))


def kind_of(place: Any, model: Any, tree: Mapping[str, Any]) -> str:
    """What `forward_bound` calls the kind of a place."""
    if place.kind:
        return place.kind
    if place.operation == "norm":
        return "batch" if f"{place.holds}.mean" in tree else traits_of(model).norm
    if place.operation == "activation":
        return traits_of(model).activation
    return "biased" if f"{place.holds}.bias" in tree else ""


def rounds_last(place: Any) -> bool:
    """Whether a place's last operation is its only rounding. A kernel of products may round the sums of its blocks, as
    TensorFlow's own do on a CPU; and scores are scaled after it."""
    return place.operation in ("embedding", "sum", "residual", "gate", "norm", "activation", "rotary positions")


def forward_terms(name: str, place: Any, tree: Any, given: Mapping[str, np.ndarray]) -> int:
    """The length of the sum behind a value at a place."""
    out, inputs = given[f"forward/{name}"], [given[f"forward/{read}"] for read in place.reads]
    kernel = tree.get(f"{place.holds}.kernel") or tree.get(f"{place.holds}.embedding")
    if place.operation == "linear":
        tied = f"{place.holds}.embedding" in tree
        return kernel.shape[-1] if tied else math.prod(kernel.shape[:-1])
    if place.operation == "convolution":
        return math.prod(kernel.shape[:-1])
    if place.operation == "norm":
        return out.size // out.shape[-1] if f"{place.holds}.mean" in tree else out.shape[-1]
    if place.operation == "attention scores":  # (B, K, G, T, S) of queries (B, T, H D)
        return inputs[0].size // math.prod(out.shape[:4])
    if place.operation in ("softmax", "attention mix"):
        return inputs[0].shape[-1]
    if place.operation == "pooling":
        return inputs[0].size // out.size
    return 1


def backward_terms(name: str, place: Any, tree: Any, given: Mapping[str, np.ndarray]) -> int:
    """The length of the sum behind a cotangent that a place hands on."""
    out, inputs = given[f"forward/{name}"], [given[f"forward/{read}"] for read in place.reads]
    kernel = tree.get(f"{place.holds}.kernel") or tree.get(f"{place.holds}.embedding")
    if place.operation in ("linear", "convolution"):
        tied = f"{place.holds}.embedding" in tree
        return kernel.shape[0] if tied else math.prod(kernel.shape) // kernel.shape[-2]
    if place.operation == "attention scores":  # by keys: over the queries of a group
        return out.shape[2] * out.shape[3]
    if place.operation == "attention mix":
        shares = inputs[0].shape
        return max(shares[2] * shares[3], out.shape[-1] // (shares[1] * shares[2]))
    return forward_terms(name, place, tree, given)
