"""Adapters: which tensors a recipe's [adapt] trains while a model's own stay. Bottleneck ones are of the model
(`common/families/bottleneck.py`); of low-rank ones here stands which tensors they add, and what kernels they make.

Beside the kernel `P.kernel` lie `P.lora_a` and `P.lora_b`. Both rooms add the product to the weights before the forward
pass, so that nothing else of a model, and no place of it, is another than without.
"""

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.errors import BadInput, did_you_mean, one_of
from twinscale.common.families.bottleneck import INSIDE, is_inside
from twinscale.common.families.parameters import Parameter, is_trained, parameters

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

A, B, KERNEL = ".lora_a", ".lora_b", ".kernel"
DROPOUT = ".lora_dropout"  # the place that draws which of a kernel's inputs A does not see


def is_adapter(name: str) -> bool:
    """Whether a tensor is a low-rank adapter's, by its canonical name."""
    return name.endswith((A, B))


def kernel_of(name: str) -> str:
    """The canonical name of the kernel that an adapter's tensor lies beside."""
    return f"{name.rpartition('.')[0]}{KERNEL}"


def has_adapters(recipe: "Recipe") -> bool:
    """Whether a recipe's model has adapters, and all else but what it names stays."""
    return one_of({"none": False, "lora": True, "bottleneck": True}, recipe.adapt.kind, "adapt.kind")


def has_products(recipe: "Recipe") -> bool:
    """Whether a recipe's model computes with kernels that adapters' products are added to."""
    return one_of({"none": False, "lora": True, "bottleneck": False}, recipe.adapt.kind, "adapt.kind")


def shapes_beside(recipe: "Recipe", shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """{canonical name: shape} of the low-rank adapters of a recipe, of its model's {canonical name: shape}, in their
    order."""
    found, rank = {}, recipe.adapt.rank
    for name, shape in shapes.items() if has_products(recipe) else ():
        if is_target(recipe, name, shape):
            stem = name.removesuffix(KERNEL)
            found |= {f"{stem}{A}": (shape[0], rank), f"{stem}{B}": (rank, shape[1])}
    return found


def is_target(recipe: "Recipe", name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor gets an adapter: a kernel of two axes that a pattern of the recipe means."""
    return name.endswith(KERNEL) and len(shape) == 2 and any(fnmatchcase(name, p) for p in recipe.adapt.targets)


def tree_of(recipe: "Recipe", classes: int, example_shape: Any) -> dict[str, Parameter]:
    """`parameters` of a recipe's model, with its adapters behind them. Raises as it does."""
    tree = parameters(recipe.model, classes, example_shape)
    beside = shapes_beside(recipe, {name: parameter.shape for name, parameter in tree.items()})
    return tree | {name: Parameter(shape, 1 / math.sqrt(shape[0]) if name.endswith(A) else 0.0)
                   for name, shape in beside.items()}


def stays(recipe: "Recipe", name: str) -> bool:
    """Whether a tensor is one that adapters leave as it is."""
    own = is_adapter(name) if has_products(recipe) else is_inside(name)
    return has_adapters(recipe) and not own and not any(fnmatchcase(name, p) for p in recipe.adapt.train)


def merged(recipe: "Recipe", tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The plain model, {canonical name: array}, of one with adapters: W + (alpha / rank) A B, computed in float64 and
    rounded once to W's dtype."""
    found = {name: x for name, x in tensors.items() if not is_adapter(name)}
    for name in (name for name in tensors if name.endswith(A)):
        kernel, b = kernel_of(name), tensors[name.removesuffix(A) + B]
        product = np.asarray(tensors[name], np.float64) @ np.asarray(b, np.float64)
        found[kernel] = (found[kernel] + recipe.adapt.scale * product).astype(found[kernel].dtype)
    return found


def check_adapters(recipe: "Recipe", tree: Mapping[str, Parameter]) -> None:
    """Raises BadInput where patterns of [adapt] mean nothing, a rank is more than a kernel has, or a tensor would stay
    at values that nothing has trained; `tree` is that of `tree_of`."""
    if not has_adapters(recipe):
        return
    own = {name: parameter for name, parameter in tree.items() if not is_adapter(name) and is_trained(name)}
    if has_products(recipe):
        check_targets(recipe, own)
    if recipe.adapt.train != type(recipe.adapt)().train:
        check_patterns("adapt.train", recipe.adapt.train, own, "no trained tensor")
    if getattr(recipe.model, "weights", ""):
        fresh = [name for name, parameter in own.items() if not parameter.start and stays(recipe, name)]
        if fresh:
            more = ", ".join(sorted({f'"{name.partition(".")[0]}.*"' for name in fresh}))
            raise BadInput(f"adapt.train: {', '.join(fresh[:4])}: not in the file of model.weights, and would stay at "
                           f"random values: add {more}")


def check_targets(recipe: "Recipe", own: Mapping[str, Parameter]) -> None:
    """Raises BadInput where a pattern means no kernel of a model's `own` tensors, or a rank is more than one has."""
    kernels = [name for name, parameter in own.items() if name.endswith(KERNEL) and len(parameter.shape) == 2]
    check_patterns("adapt.targets", recipe.adapt.targets, kernels, "no kernel of two axes")
    for name in kernels:
        if is_target(recipe, name, own[name].shape) and recipe.adapt.rank > min(own[name].shape):
            raise BadInput(f"adapt.rank={recipe.adapt.rank}: {name} {own[name].shape} has no more than "
                           f"{min(own[name].shape)}: lower it, or leave the kernel out of adapt.targets")


def check_patterns(key: str, patterns: Iterable[str], names: Iterable[str], lacks: str) -> None:
    """Raises BadInput where a pattern is that of no name; `lacks` says of what there is none."""
    known = list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = did_you_mean(pattern, known) or f": there are {', '.join(known[:6])} ..."
            raise BadInput(f'{key}: "{pattern}": {lacks} is called so{near}')


def said(recipe: "Recipe", tree: Mapping[str, Parameter]) -> str:
    """A line on what is trained of a recipe's model; "" where it has no adapters."""
    if not has_adapters(recipe):
        return ""
    sizes = {name: math.prod(parameter.shape) for name, parameter in tree.items() if is_trained(name)}
    low = has_products(recipe)
    count = sum(name.endswith(A if low else f"{INSIDE}up{KERNEL}") for name in sizes)
    moved = sum(size for name, size in sizes.items() if not stays(recipe, name))
    model = sum(size for name, size in sizes.items() if not (is_adapter(name) if low else is_inside(name)))
    what = f"rank {recipe.adapt.rank}" if low else f"width {recipe.adapt.width}"
    return (f"adapters: {count} of {what}; {moved:,} values are trained beside the model's "
            f"{model:,}")
