"""Which tensor of a checkpoint is which of a program's, where they are called nearly alike.

A checkpoint wraps its weights ("params", "batch_stats", "model") and ends their paths ("value"); the file of a Keras
model has numbers for a layer's tensors, in the layer's own order.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import shown

WRAPPERS = {"params", "batch_stats", "model", "state", "variables", "target", "ema", "module", "nnx", "default", "item"}
ENDS = {"value", "raw_value"}
OPTIMIZERS = {"optimizer", "opt_state", "optimizer_state", "opt", "ema_params", "rngs"}
# The order in which Keras' layers make their tensors; of no layer are bias and beta both.
ORDER = ("depthwise_kernel", "pointwise_kernel", "kernel", "recurrent_kernel", "embeddings", "gamma", "scale", "beta",
         "bias", "moving_mean", "moving_variance")


@dataclass(frozen=True)
class Fitted:
    """{a program's path: the checkpoint's}, and what has no partner: of the program, and of the checkpoint besides its
    optimizer's."""

    names: dict[str, str]
    absent: tuple[str, ...]
    left: tuple[str, ...]


def fitted(stored: Iterable[str], wanted: Sequence[str], ordered: bool = True) -> Fitted:
    """Which tensors of a checkpoint are those of a program.

    Args:
      stored: the checkpoint's paths.
      wanted: the program's.
      ordered: whether `wanted` is in the program's own order, by which a layer's numbers are told apart; else the names
        of Keras' own layers are.
    Raises BadInput where two of the checkpoint could be one of the program's.
    """
    weights = [path for path in stored if not OPTIMIZERS & set(path.lower().split("/")[:-1])]
    modules: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in weights:
        module, leaf = _parted(bare(path))
        modules[module][leaf].append(path)
    of_module: dict[str, list[str]] = defaultdict(list)
    for path in wanted:
        of_module[_parted(bare(path))[0]].append(path)
    names, there = {}, set(weights)
    renumbered = _renumbered([*modules], [*of_module])
    for module, paths in of_module.items():
        leaves = _leaves(renumbered.get(module, module), modules)
        numbers = _numbers(paths, leaves, ordered)
        for path in paths:
            here = path in there and module not in renumbered
            found = [path] if here else leaves.get(_parted(bare(path))[1]) or numbers.get(path) or []
            if len(found) > 1:
                these = " or ".join(map(shown, found[:4]))
                raise BadInput(f"{shown(path)}: may be {these} of the checkpoint: save the weights alone")
            if found:
                names[path] = found[0]
    used = set(names.values())
    return Fitted(names, tuple(path for path in wanted if path not in names),
                  tuple(path for path in weights if path not in used))


def bare(path: str) -> str:
    """A path without what a checkpoint has around it."""
    parts = path.replace(".", "/").split("/")
    while len(parts) > 1 and parts[0].lower() in WRAPPERS:
        parts = parts[1:]
    return "/".join(parts[:-1] if len(parts) > 1 and parts[-1] in ENDS else parts)


def check_fits(found: Fitted, path: object) -> None:
    """Raises BadInput, by name and with the nearest, where a tensor of a program is not in the checkpoint at a path."""
    if found.absent:
        name, more = found.absent[0], f" ({len(found.absent)} are not)" if len(found.absent) > 1 else ""
        homes = sorted({_parted(bare(left))[0] for left in found.left} - {""})
        near = did_you_mean(name, found.left) or did_you_mean(_parted(name)[0], homes)
        left = ", ".join(map(shown, found.left[:6])) + ", ..." * (len(found.left) > 6)
        raise BadInput(f"{shown(path)}: {shown(name)} is not in it{more}"
                       f"{near or (f'; what nothing asks for is {left}' if left else '')}")


def _parted(path):
    module, _, leaf = path.rpartition("/")
    return module, leaf


def _leaves(module, modules) -> Mapping[str, list[str]]:
    """{leaf: paths} of the checkpoint's module that is called so, or that alone is called so with more before it, or
    with less."""
    if module in modules:
        return modules[module]
    near = [name for name in modules if module and name and (
        name.endswith(f"/{module}") or module.endswith(f"/{name}"))]
    return modules[near[0]] if len(near) == 1 else {}


def _renumbered(stored: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """{module of a program: of the checkpoint} where Keras has numbered layers on: what is called dense and dense_1 in
    one process is dense_4 and dense_5 in another. It is where both have as many of a name, and other numbers."""
    def below(names, above):
        return {name[len(above):].split("/")[0] for name in names if name.startswith(above) and name != above} - {""}

    def look(here, there):
        ours, theirs = (_by_name(below(names, above)) for names, above in ((wanted, here), (stored, there)))
        for name, numbers in ours.items():
            others = theirs.get(name, [])
            if len(others) != len(numbers):
                others = numbers
            for one, other in zip(numbers, others, strict=True):
                if here + one != there + other:
                    found[here + one] = there + other
                look(f"{here}{one}/", f"{there}{other}/")

    found: dict[str, str] = {}
    look("", "")
    return {module: found[module] for module in wanted if module in found}


def _by_name(parts: Iterable[str]) -> dict[str, list[str]]:
    """{"dense": ["dense", "dense_1"]}: parts of paths by their names without numbers, in the order of these."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: int((re.search(r"_(\d+)$", part) or (0, -1))[1])):
        found[re.sub(r"_\d+$", "", part)].append(part)
    return found


def _numbers(paths, leaves, ordered) -> dict[str, list[str]]:
    """{path: those of the checkpoint} of a module whose tensors have numbers there; nothing where there are others than
    as many, or nobody knows their order."""
    if set(leaves) != {str(i) for i in range(len(paths))}:
        return {}
    last = [_parted(path)[1] for path in paths]
    if not ordered and len(paths) > 1:
        if not set(last) <= set(ORDER):
            return {}
        paths = sorted(paths, key=lambda path: ORDER.index(_parted(path)[1]))
    return {path: leaves[str(i)] for i, path in enumerate(paths)}
