"""What a compression is, for both backends: what is pruned, quantised and clustered, and the tensors that its stages
start from and leave. The mathematics that the backends share is written here, or at the stages in
`common/recipe/compress.py`; TF-MOT 0.8.1 is the reference.

A stage is a training like any other, of the recipe that `stage_recipe` gives, into a run of its own. Beside the model's
tensors its state holds, under canonical names, for a kernel or table X and a place P:

    X_mask       0 or 1, X's shape and dtype: what pruning keeps, or a later stage must keep
    X_centroids  (clusters,), trained beside X
    X_clustered  X's shape: X's nearest centroids at the last training step, under quantisation alone
    X_range      (2,) or, of convolutions, (2, channels): [min, max] at the last training step
    P.range      (2,): [min, max] of what the place P computes; P is `inputs`, or one of `common/families/places.py`
    teacher.X    the teacher's X
"""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.compress.recipes import active, teacher_model
from twinscale.common.errors import BadInput, one_of
from twinscale.common.families import reads_text, traits_of
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.places import places
from twinscale.common.recipe.schema import master_dtype

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe

BLOCK = 4  # of the patterns 2:4 and 4x4


# ---- what is compressed

def chosen(names: Iterable[str], tree: Iterable[str]) -> list[str]:
    """The canonical names of `tree` that one of the patterns `names` matches."""
    return [name for name in tree if any(fnmatch.fnmatchcase(name, pattern) for pattern in names)]


def kernels(tree: Mapping[str, Any]) -> list[str]:
    """The canonical names of what quantisation takes: kernels and tables."""
    return [name for name in tree if name.endswith((".kernel", ".embedding"))]


def per_channel(shape: Sequence[int]) -> bool:
    """Whether a kernel has a range for each output channel: a convolution's."""
    return len(shape) == 4


def quantised_places(model: Any) -> dict[str, str]:
    """{place: "all" | "average"}: the places whose output is quantised, in forward order, and how their ranges move in
    training: to all extremes so far, or as a moving average.

    As TF-MOT's 8-bit scheme has it for these graphs: the inputs of images; every layer's output, but where a ReLU or a
    batch norm follows it is that one's alone. Embeddings are quantised as tables, random bits not at all, and the core
    of attention (rotary positions, scores, mask, softmax) stays in floating point, with the mixed values quantised
    again.
    """
    known = places(model)
    readers = {}
    for name, place in known.items():
        for read in place.reads:
            readers.setdefault(read, []).append((name, place.operation))
    relu = traits_of(model).activation == "relu"

    def taken(name, place):
        if place.operation in ("embedding", "random bits", "rotary positions", "attention scores", "attention mask",
                               "softmax"):
            return False
        followed = {operation for _, operation in readers.get(name, ())}
        if followed == {"activation"} and relu:
            return False
        return not (place.operation == "convolution" and followed == {"norm"})

    found = {} if reads_text(model) else {"inputs": "all"}
    return found | {name: "average" for name, place in known.items() if taken(name, place)}


def matched_blocks(student: int, teacher: int) -> list[tuple[int, int]]:
    """[(student's block, teacher's)] of two decoders: the teacher's are evenly spaced, its last with the last."""
    return [(i, (i + 1) * teacher // student - 1) for i in range(student)]


# ---- the tensors of a stage

def extra_tensors(recipe: "Recipe", dataset: "Dataset") -> dict[str, tuple]:
    """{canonical name: shape} of what a stage's state has besides the model's own tensors."""
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    return one_of(EXTRA, active(recipe).kind, "stage")(recipe, dataset, tree)


def of_pruning(recipe: "Recipe", dataset: "Dataset", tree: Mapping[str, Any]) -> dict[str, tuple]:
    """`extra_tensors` of a pruning stage."""
    return {f"{name}_mask": tree[name].shape for name in chosen(active(recipe).names, tree)}


def of_clustering(recipe: "Recipe", dataset: "Dataset", tree: Mapping[str, Any]) -> dict[str, tuple]:
    """`extra_tensors` of a clustering stage."""
    stage, pruned, extra = active(recipe), pruned_before(recipe, tree), {}
    for name in chosen(stage.names, tree):
        extra[f"{name}_centroids"] = (stage.clusters,)
        if name in pruned:
            extra[f"{name}_mask"] = tree[name].shape
    return extra


def of_quantising(recipe: "Recipe", dataset: "Dataset", tree: Mapping[str, Any]) -> dict[str, tuple]:
    """`extra_tensors` of a stage that quantises."""
    pruned, clustered = pruned_before(recipe, tree), clustered_before(recipe, tree)
    extra: dict[str, tuple] = {}
    for name in kernels(tree):
        if name in clustered:
            extra[f"{name}_centroids"] = (clustered[name],)
            extra[f"{name}_clustered"] = tree[name].shape
        if name in pruned:
            extra[f"{name}_mask"] = tree[name].shape
        extra[f"{name}_range"] = (2, tree[name].shape[-1]) if per_channel(tree[name].shape) else (2,)
    return extra | {f"{place}.range": (2,) for place in quantised_places(recipe.model)}


def of_distilling(recipe: "Recipe", dataset: "Dataset", tree: Mapping[str, Any]) -> dict[str, tuple]:
    """`extra_tensors` of a stage that distils."""
    taught = parameters(teacher_model(recipe), dataset.classes, dataset.example_shape)
    return {f"teacher.{name}": p.shape for name, p in taught.items()}


EXTRA = {"prune": of_pruning, "cluster": of_clustering, "quantize": of_quantising, "post_training": of_quantising,
         "distil": of_distilling}


def pruned_before(recipe: "Recipe", tree: Mapping[str, Any]) -> list[str]:
    """The names whose zeros the last stage keeps: those that an earlier one has pruned since the last student."""
    if not getattr(active(recipe), "preserve", True):
        return []
    return [name for stage in since_student(recipe) if stage.kind == "prune" for name in chosen(stage.names, tree)]


def clustered_before(recipe: "Recipe", tree: Mapping[str, Any]) -> dict[str, int]:
    """{name: clusters} whose centroids the last stage keeps."""
    if not getattr(active(recipe), "preserve", True):
        return {}
    return {name: stage.clusters for stage in since_student(recipe) if stage.kind == "cluster"
            for name in chosen(stage.names, tree)}


def since_student(recipe: "Recipe") -> Sequence[Any]:
    """The stages before the last one that its tensors have gone through."""
    before = recipe.compress.stages[:-1]
    students = [number for number, stage in enumerate(before) if stage.kind == "distil"]
    return before[students[-1] + 1 if students else 0:]


def first_tensors(recipe: "Recipe", dataset: "Dataset", left: Mapping[str, np.ndarray], extremes: Mapping[str, Any]
                 ) -> dict[str, np.ndarray]:
    """{"weights/NAME": array} of all that a stage starts from: equal in both backends, for they are given one file.

    Args:
      recipe: the stage's.
      dataset: its data.
      left: {canonical name: array} that the stage before has left (`stripped`), or the teacher.
      extremes: {place: (min, max)} of the calibration, empty where there is none.
    """
    tree, dtype = parameters(recipe.model, dataset.classes, dataset.example_shape), master_dtype(recipe)
    stage = active(recipe)
    if stage.kind == "distil":
        tensors = initial_values(tree, recipe.seed, dtype) | {f"teacher.{name}": x for name, x in left.items()}
        return {f"weights/{name}": x for name, x in tensors.items()}
    tensors = {name: np.asarray(left[name], dtype) for name in tree}
    for name, shape in extra_tensors(recipe, dataset).items():
        owner, _, kind = name.rpartition("_")
        if kind == "mask":
            tensors[name] = np.ones(shape, dtype) if stage.kind == "prune" else (tensors[owner] != 0).astype(dtype)
        elif kind == "centroids":
            tensors[name] = (linear_centroids(tensors[owner], stage.clusters) if stage.kind == "cluster"
                             else centroids_of(tensors[owner], shape[0])).astype(dtype)
        elif kind == "clustered":
            tensors[name] = tensors[owner].copy()
        elif kind == "range":
            low, high = symmetric_range(tensors[owner])
            tensors[name] = np.stack([low, high]).astype(dtype)
        elif name.endswith(".range"):  # of a place
            low, high = extremes.get(name.removesuffix(".range"), (0.0, 0.0) if name == "inputs.range" else (-6.0, 6.0))
            tensors[name] = np.array([min(low, 0), max(high, 0)], dtype)
        else:
            raise BadInput(f"{name}: nothing says what this tensor of a stage starts from")
    return {f"weights/{name}": x for name, x in tensors.items()}


def symmetric_range(kernel: np.ndarray) -> tuple:
    """(min, max) of a kernel as its quantiser takes them: (), or (channels,) of a convolution."""
    axes = tuple(range(kernel.ndim - 1)) if per_channel(kernel.shape) else None
    low, high = kernel.min(axes), kernel.max(axes)
    return np.minimum(low, -high), np.maximum(high, -low)


def linear_centroids(kernel: np.ndarray, clusters: int) -> np.ndarray:
    """Centroids (clusters,) from the smallest value to the largest at even distances; where the kernel has zeros from
    pruning, that nearest to zero is zero."""
    centroids = np.linspace(kernel.min(), kernel.max(), clusters, dtype=kernel.dtype)
    if (kernel == 0).any():
        centroids[np.abs(centroids).argmin()] = 0
    return centroids


def centroids_of(kernel: np.ndarray, clusters: int) -> np.ndarray:
    """The distinct values of a clustered kernel, sorted, (clusters,); the last is repeated where there are fewer."""
    values = np.unique(kernel)
    if len(values) > clusters:
        raise BadInput(f"a clustered tensor has {len(values)} distinct values, not {clusters} at most")
    return np.concatenate([values, np.repeat(values[-1:], clusters - len(values))])


def stripped(recipe: "Recipe", tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{canonical name: array} of the model alone that a stage has left in its state `tensors` ("weights/NAME"): masks
    applied, weights replaced by their centroids."""
    found = {name.removeprefix("weights/"): x for name, x in tensors.items() if name.startswith("weights/")}
    left = {}
    for name, x in found.items():
        if name.endswith(("_mask", "_centroids", "_clustered", "_range", ".range")) or name.startswith("teacher."):
            continue
        if f"{name}_clustered" in found:
            x = found[f"{name}_clustered"]
        elif f"{name}_centroids" in found:
            x = nearest(x * found.get(f"{name}_mask", 1), found[f"{name}_centroids"])
        elif f"{name}_mask" in found:
            x = np.where(found[f"{name}_mask"] != 0, x, np.zeros_like(x))  # a product would leave zeros of both signs
        left[name] = x
    return left


def nearest(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """x with each value replaced by the nearest centroid, the first of equally near ones."""
    flat = x.reshape(-1)
    return centroids[np.abs(flat[:, None] - centroids).argmin(-1)].reshape(x.shape)


def sparsity_at(stage: Any, update: int) -> np.floating:
    """The share of zeros (float32) of the mask made at an update (from 1), computed as TF-MOT does."""
    if stage.steady:
        return np.float32(stage.sparsity)
    p = np.minimum(np.float32(1), np.maximum(np.float32(0), np.float32(update - stage.begin)
                                             / np.float32(stage.last - stage.begin)))
    return (np.float32(stage.initial - stage.sparsity) * np.power(np.float32(1) - p, np.float32(stage.power))
            + np.float32(stage.sparsity)).astype(np.float32)


def is_due(stage: Any, update: int) -> bool:
    """Whether masks are made at an update (from 1)."""
    if stage.pattern == "2:4":
        return update == 1
    within = update >= stage.begin and (stage.steady or update <= stage.last)
    return within and (update - stage.begin) % stage.every == 0


def mask_updates(stage: Any) -> list[int]:
    """The updates (from 1) of a pruning stage that make masks."""
    return [update for update in range(1, stage.steps + 1) if is_due(stage, update)]


# ---- what a compressed model is

def summary(left: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """{"parameters", "kept"}: values of a model's kernels and tables, and the share of them that is not zero."""
    sizes = {name: x for name, x in left.items() if name.endswith((".kernel", ".embedding"))}
    total = sum(x.size for x in sizes.values())
    return {"parameters": sum(math.prod(x.shape) for x in left.values()),
            "kept": sum(int(np.count_nonzero(x)) for x in sizes.values()) / total}


def verified(recipe: "Recipe", tree: Mapping[str, Any], before: Mapping[str, np.ndarray],
             after: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """One row a kernel of what a stage kept of what the stages before had made: {"name", "zeros_before", "zeros_after",
    "values_before", "values_after", "kept"}; `before` and `after` are {canonical name: array}."""
    rows = []
    pruned, clustered = pruned_before(recipe, tree), clustered_before(recipe, tree)
    for name in dict.fromkeys([*pruned, *clustered]):
        zeros = [float((x[name] == 0).mean()) for x in (before, after)]
        values = [len(np.unique(x[name])) for x in (before, after)]
        kept = (name not in pruned or bool((after[name][before[name] == 0] == 0).all())) and (
            name not in clustered or values[1] <= clustered[name])
        rows.append({"name": name, "zeros_before": zeros[0], "zeros_after": zeros[1], "values_before": values[0],
                     "values_after": values[1], "kept": kept})
    return rows
