"""Where tensors meet the data in a program without modules, such as two pure functions, by its operations alone.

A place begins where a product, a lookup or a scale takes a tensor to data, and ends with the last tensor beside it that
goes into the same result, as a bias: of a dense layer the product and its sum, of a norm all from its input on. The
input of a norm is the value through which everything goes that is scaled, its dominator (Lengauer and Tarjan 1979).
What is within a loop is one operation.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

LINEAR = ("dot_general", "conv_general_dilated", "gather", "ragged_dot_general")  # as JAX calls its operations
SCALES = ("mul", "div", "sub", "add")
THIN = ("reshape", "transpose", "convert_element_type", "broadcast_in_dim", "squeeze", "copy", "copy_p")
OF_NORMS = (*THIN, *SCALES, "reduce_sum", "rsqrt", "sqrt", "pow", "integer_pow", "square")
HEAVY = (*LINEAR, "exp", "scan", "while", "cond")  # no norm has these within it
ROOT = -1  # of the dominators: all that is given


class Step(NamedTuple):
    """An operation, and the values that it reads and makes by their numbers; a constant is None."""

    name: str
    reads: tuple[int | None, ...]
    makes: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where tensors meet data: the tensors by path, the value that goes in (None: no floats do), the one that comes
    out, the numbers of the steps between, and the module that holds the tensors; or the first tensor, where a module's
    tensors meet data at several places."""

    tensors: tuple[str, ...]
    input: int | None
    output: int
    steps: tuple[int, ...]
    is_linear: bool
    module: str = ""


class Graph(NamedTuple):
    """What is known of a program's steps so far: which tensors alone make a value, which step makes the others, and
    the nearest value through which all that makes them goes."""

    steps: Sequence[Step]
    held: Mapping[int, frozenset[str]]
    maker: Mapping[int, int]
    above: Mapping[int, int]

    def data(self, index: int) -> list[int]:
        """The data that a step reads, by number."""
        return [x for x in self.steps[index].reads if x is not None and x not in self.held]


def places(steps: Sequence[Step], tensors: Mapping[int, str], data: Iterable[int], whole: Collection[int]
           ) -> list[Place]:
    """The places of a program, in the order in which they end.

    Args:
      tensors: paths by the numbers of their values. data: numbers of what else is given. All other values that no step
        makes are constants.
      whole: numbers of values that are whole numbers, as ids.
    """
    above, maker = dict.fromkeys(data, ROOT), dict[int, int]()
    known = above.keys() | {value for step in steps for value in step.makes}
    held = {value: frozenset[str]() for step in steps for value in step.reads
            if value is not None and value not in known}
    held |= {number: frozenset([name]) for number, name in tensors.items()}
    found: list[Place] = []
    graph = Graph(steps, held, maker, above)
    for index, step in enumerate(steps):
        read, names = graph.data(index), frozenset[str]().union(*(held.get(x, ()) for x in step.reads if x is not None))
        if not read:
            held |= dict.fromkeys(step.makes, names)
            continue
        maker |= dict.fromkeys(step.makes, index)
        above |= dict.fromkeys(step.makes, _common(read, above))
        if len({_parent(name) for name in names}) == 1 and len(step.makes) == 1:
            _meets(found, index, tuple(sorted(names)), graph)
    found = [replace(place, input=None) if place.input in whole else place for place in found
             if not _is_sum(place, steps)]
    return _named(found, tensors.values())


def _meets(found, index, tensors, graph):
    """Adds to the places that are found what a step does with tensors and data: to the last one of their module whose
    result it goes on with, or as one more."""
    name, (made,), data = graph.steps[index].name, graph.steps[index].makes, graph.data(index)
    if name not in (*LINEAR, *SCALES):
        return
    for number in range(len(found) - 1, -1, -1):
        last = found[number]
        if name in SCALES and _parent(last.tensors[0]) == _parent(tensors[0]) and _goes_on(last, data, graph):
            found[number] = replace(last, tensors=tuple(dict.fromkeys((*last.tensors, *tensors))), output=made,
                                    steps=_between(last.input, made, graph))
            return
    start = data[0] if name in LINEAR else _start(data, graph)
    found.append(Place(tensors, start, made, _between(start, made, graph), name in LINEAR))


def _goes_on(last, data, graph):
    """Whether the data that one more of its tensors meets is what a place makes, as it is or, of what scales, with more
    of its input."""
    if last.is_linear and {"add", "gather"} & {graph.steps[step].name for step in last.steps}:
        return False  # a sum of its own, or a table, which has none
    allowed, left, seen = THIN if last.is_linear else (*THIN, *SCALES), list(data), False
    while left:
        value = left.pop()
        index = graph.maker.get(value, ROOT)
        if value == last.output:
            seen = True
        elif index > graph.maker[last.output] and graph.steps[index].name in allowed and _between(
                last.output, value, graph):
            left += graph.data(index)
        elif last.is_linear or last.input not in _dominators(value, graph.above):
            return False
    return seen


def _start(data, graph):
    """What goes into a place that scales: of a norm its own input, the last value, as far as all between is what norms
    do, below which a sum is taken; else the data."""
    value = start = _common(data, graph.above)
    while value in graph.maker and graph.above[value] != ROOT:
        above, index = graph.above[value], graph.maker[value]
        within = {graph.steps[step].name for step in _between(above, value, graph)}
        is_joined = graph.steps[index].name == "add" and len(set(graph.data(index))) > 1
        if "reduce_sum" in within and within.isdisjoint(HEAVY):
            start = above
        elif is_joined or not within.issubset(OF_NORMS):
            break
        value = above
    return start


def _between(start, end, graph):
    """Numbers of the steps on all ways from one value to another, in order."""
    found, left = set(), [end]
    while left:
        value = left.pop()
        if value == start or value not in graph.maker or graph.maker[value] in found:
            continue
        found.add(graph.maker[value])
        left += graph.data(graph.maker[value])
    reached, kept = {start}, []
    for index in sorted(found):
        if not reached.isdisjoint(graph.data(index)):
            kept.append(index)
            reached |= set(graph.steps[index].makes)
    return tuple(kept)


def _common(values: Iterable[int], above: Mapping[int, int]) -> int:
    """The nearest value through which all that makes these goes."""
    first, *rest = values
    line = _dominators(first, above)
    for value in rest:
        others = set(_dominators(value, above))
        line = [one for one in line if one in others]
    return line[0]


def _dominators(value, above):
    line = [value]
    while line[-1] != ROOT:
        line.append(above[line[-1]])
    return line


def _is_sum(place, steps):
    """Whether nothing but sums are done with a place's tensors, as with positions that are added."""
    return not place.is_linear and all(steps[step].name in ("add", "sub", *THIN) for step in place.steps)


def _named(found, names):
    of_module: dict[str, set[tuple[str, ...]]] = {}
    for place in found:
        of_module.setdefault(_parent(place.tensors[0]), set()).add(tuple(sorted(place.tensors)))
    wholes = {module for module, tensors in of_module.items()
              if tensors == {tuple(sorted(name for name in names if _parent(name) == module))}}
    return [replace(place, module=_parent(place.tensors[0]) if _parent(place.tensors[0]) in wholes
                    else place.tensors[0]) for place in sorted(found, key=lambda place: place.steps[-1])]


def _parent(name):
    return name.rpartition("/")[0]
