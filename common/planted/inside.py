"""Where something can be planted inside a pair's programs: at modules that hold matched tensors, by the path that the
planted side has for them, at tensors by their canonical names, and between two tensors of one shape."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from twinscale.common.errors import BadInput
from twinscale.common.pairs.first import canonical_names
from twinscale.common.pairs.tensors import Tensor

AT, WITH = "@", "&"  # "scaled_output@hidden", "swapped_tensors@norm/gamma&norm/beta"
PAIR = "pair"  # the recipe of a Change that is planted at a place
STOP, SWAP, FREEZE, LOSE = "missing_gradient", "swapped_tensors", "frozen_tensor", "lost_gradient"
OUTPUTS = ("scaled_output", STOP, "equal_einsum")
SIDES = ("keras", "jax")


class Spot(NamedTuple):
    """What is planted on which side, at what, and where the gate is to find it: a module of the Keras model, or a
    tensor by its canonical name."""

    kind: str
    backend: str
    at: str
    where: str

    @property
    def name(self) -> str:
        """As `plant` takes it."""
        return f"{self.kind}{AT}{self.at}"


def spots(tensors: Sequence[Tensor], modules: Iterable[tuple[str, str]]) -> list[Spot]:
    """What there is to plant in a pair, on either side by turns.

    Args:
      tensors: those of the Keras model.
      modules: (a module of the Keras model, its partner) in the order in which they are called.
    """
    partners, names = dict(reversed([*modules])), canonical_names(tensors)
    order = [*dict.fromkeys([*reversed(partners), *(tensor.module for tensor in tensors)])]
    turns = {kind: count(turn) for turn, kind in enumerate((*OUTPUTS, SWAP, FREEZE, LOSE))}
    found = []

    def plant(kind: str, at: tuple[str, str], where: str) -> None:
        turn = next(turns[kind]) % 2
        found.append(Spot(kind, SIDES[turn], at[turn], where))

    for number, module in enumerate(order):
        for kind in OUTPUTS if module in partners else ():
            plant(kind, (module, partners[module]), module)
        trained = [tensor for tensor in tensors if tensor.module == module and tensor.trained]
        for turn, kind in enumerate((FREEZE, LOSE) if trained else ()):  # of one after the other a bias and a kernel
            name = names[trained[(number + turn) % len(trained)].path]
            plant(kind, (name, name), name if kind == FREEZE else module)
    for one, other in _equal(tensors):
        first = min(one.module, other.module, key=order.index)
        plant(SWAP, (WITH.join((one.path, other.path)),) * 2, first)
    return found


def _equal(tensors: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Pairs of tensors of one shape, of one role where there are such; of an odd number one is in two."""
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.shape, tensor.trained), []).append(tensor)
    pairs = []
    for group in groups.values():
        group = sorted(group, key=lambda tensor: tensor.role)
        pairs += list(zip(group[::2], group[1::2], strict=False))
        if len(group) > 1 and len(group) % 2:
            pairs.append((group[-2], group[-1]))
    return pairs


def unseen(tensors: Sequence[Tensor], modules: Iterable[tuple[str, str]]) -> list[str]:
    """Modules of the Keras model that hold tensors and were not seen beside a partner: nothing is planted in what they
    make."""
    seen = {module for module, _ in modules}
    return [module for module in dict.fromkeys(tensor.module for tensor in tensors) if module not in seen]


def swapped(tensors: Mapping[str, Any], at: str) -> dict[str, Any]:
    """{path: array} in which the two tensors that are named change places; where there is but one of them, it has the
    other's path."""
    one, other = at.split(WITH)
    return {{one: other, other: one}.get(path, path): x for path, x in tensors.items()}


def parted(change: str, changes: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """(the Change of a name, (where to plant it,) or ()). Raises BadInput where nothing has the name, or a place is
    lacking or too much."""
    name, _, at = change.partition(AT)
    if name not in changes:
        raise BadInput(f"{change}: nothing to plant has that name; known here: {', '.join(changes)}")
    if bool(at) != (changes[name].recipe == PAIR):
        raise BadInput(f"{change}: " + ("it is planted at no place; write its name alone" if at else
                                        f"it is planted at a place of a pair; write {name}{AT}PLACE"))
    return changes[name], (at,) if at else ()


def offered(listed: Mapping[str, Mapping[str, Any]], found: Sequence[Spot]) -> dict[str, dict[str, Any]]:
    """{backend: {name: what there is to say of it}} of what is planted anywhere, as rooms list it, with a pair's kinds
    once for each of their Spots."""
    plain = {backend: {name: row for name, row in rows.items() if row["recipe"] != PAIR}
             for backend, rows in listed.items()}
    for spot in found:
        plain[spot.backend][spot.name] = {**listed[spot.backend][spot.kind], "where": spot.where}
    return plain
