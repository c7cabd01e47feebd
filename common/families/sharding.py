"""How the tensors of a family whose inside is not known lie on a mesh: by rules over their names, the user's own."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from twinscale.common.errors import BadInput, did_you_mean

SHARED = ("fsdp", "tensor")  # axes of the mesh that share weights
WHOLE = ""  # a dimension that each device has whole

Rule = tuple[str, tuple[str, ...]]  # (pattern of canonical names, for each dimension an axis of SHARED, or WHOLE)


class Sharding(NamedTuple):
    """The rules of a model, and the tensors that they are about, {canonical name: shape}."""

    rules: tuple[Rule, ...]
    shapes: Mapping[str, tuple[int, ...]]


def axes_of(rules: Sequence[Rule], name: str, shape: Sequence[int], fsdp: int) -> tuple[str, ...]:
    """For each dimension of a tensor the axis that shares it, or WHOLE: by the first rule that knows its name and
    says as many dimensions (an optimizer's factor has fewer than its weight); of one that none knows, `fsdp` devices
    share the longest dimension that they divide (Zhao et al. 2023)."""
    for pattern, axes in rules:
        if fnmatchcase(name, pattern) and len(axes) == len(shape):
            return axes
    longest = max((i for i, size in enumerate(shape) if size % fsdp == 0), key=lambda i: shape[i], default=None)
    return tuple("fsdp" if i == longest else WHOLE for i in range(len(shape)))


def check_rules(sharding: Sharding, sizes: Mapping[str, int]) -> None:
    """Raises BadInput where rules do not fit the tensors, or a mesh of `sizes`, {axis of SHARED: devices}: a pattern
    that no tensor has, another number of dimensions, a size that the devices do not divide, and devices that share
    tensors by no rule."""
    for pattern, axes in sharding.rules:
        known = {name: shape for name, shape in sharding.shapes.items() if fnmatchcase(name, pattern)}
        if not known:
            raise BadInput(f"model.shard: {pattern}: no tensor is called so{did_you_mean(pattern, sharding.shapes)}")
        for name, shape in known.items():
            if len(shape) != len(axes):
                raise BadInput(f"model.shard: {pattern}: says {len(axes)} dimensions, but {name} has {len(shape)}, "
                               f"{tuple(shape)}")
            for size, axis in zip(shape, axes, strict=True):
                if axis and size % sizes.get(axis, 1):
                    raise BadInput(f"model.shard: {pattern}: devices.{axis}={sizes[axis]} does not divide {size} of "
                                   f"{name} {tuple(shape)}")
    if sizes.get("tensor", 1) > 1 and not any("tensor" in axes for _, axes in sharding.rules):
        raise BadInput(f"devices.tensor={sizes['tensor']}: no rule of model.shard says which tensors it shares: add "
                       'one, such as shard = { "*.kernel" = ["fsdp", "tensor"] }')
