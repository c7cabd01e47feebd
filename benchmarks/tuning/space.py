"""The file of a search: which keys of a recipe vary and how, what is to be best, and by which means it is looked for.

    metric = "loss"                                            # a name of the last evaluation's
    cost = "flops"                                             # a second objective
    [space]
    optimizer.learning_rate = { low = 1e-4, high = 1e-1, log = true }
    model.width = { low = 32, high = 128, step = 32 }
    model.norm = { choices = ["layer", "rms"] }
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import quoted, read_toml, shown
from twinscale.common.metrics import higher_is_better
from twinscale.common.recipe.file import as_override
from twinscale.common.section import Section

OF_RANGE, OF_CHOICE = {"low", "high", "log", "step"}, {"choices"}
WANTED = "expected { low = 1e-4, high = 1e-1, log = true }, { low = 8, high = 64, step = 8 } or { choices = [...] }"
MOST, MOST_POINTS = 1000, 100_000  # choices of a key, points of a grid


class Search(Section):
    """What the file says besides its space."""

    metric: str = Field("loss", description="a value of the last evaluation by name")
    direction: Literal["minimize", "maximize"] | None = None
    sampler: Literal["tpe", "random", "grid", "nsga2", "qmc"] = "tpe"
    pruner: Literal["none", "median", "percentile", "halving", "hyperband"] | None = None
    seed: int = Field(0, ge=0, lt=1 << 31)
    cost: Literal["seconds", "flops", "parameters"] | None = None
    trials: PositiveInt = 20
    storage: str = Field("", description="a database's URL as Optuna takes it; SQLite in DIR where there is none")
    space: dict[str, Any]


@dataclass(frozen=True)
class Axis:
    """A key of the recipe that varies: within a range, or over `choices`."""

    key: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    choices: tuple = ()

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers, as both ends of a range are."""
        return not self.choices and type(self.low) is type(self.high) is int

    @property
    def labels(self) -> dict[Any, Any]:
        """{what a database of trials keeps: the choice}: a list or a table is kept as the text that the recipe has."""
        return {as_override("", choice)[1:] if isinstance(choice, list | dict) else choice: choice
                for choice in self.choices}

    @property
    def ends(self) -> tuple:
        """Both ends of the range, or all choices."""
        return self.choices or (self.low, self.high)

    def value(self, label: Any) -> Any:
        """The value of the recipe's key that was kept under a label."""
        return self.labels[label] if self.choices else label


def read_search(file: Path) -> tuple[Search, tuple[Axis, ...]]:
    """(what is asked for, the axes of the space in the file's order). Raises BadInput with the file, the key, its value
    and what was expected."""
    search = read_toml(file, Search, "docs/tuning.md shows one")
    axes = tuple(_axis(f"{shown(file)}: space.{key}", key, said) for key, said in _leaves(search.space, file))
    if not axes:
        raise BadInput(f"{shown(file)}: space: empty: name a key of the recipe, as optimizer.learning_rate = "
                       "{ low = 1e-4, high = 1e-1, log = true }")
    if search.sampler == "grid" and (loose := [axis.key for axis in axes if not (
            axis.choices or axis.step is not None or axis.whole and not axis.log)]):
        raise BadInput(f'{shown(file)}: sampler = "grid": space.{loose[0]} has no steps; give it a step, or choices')
    if search.sampler == "grid" and (count := math.prod(map(size, axes))) > MOST_POINTS:
        raise BadInput(f'{shown(file)}: sampler = "grid": {count:,} points, and {MOST_POINTS:,} at most are walked; '
                       "make steps larger, or take another sampler")
    if search.pruner not in (None, "none") and search.cost:
        raise BadInput(f'{shown(file)}: pruner = "{search.pruner}": a trial is given up by one objective, and cost = '
                       f'"{search.cost}" is a second one; leave one of them out')
    return search, axes


def direction_of(search: Search, file: Path, measured: Iterable[str]) -> str:
    """"minimize" or "maximize". Raises BadInput where the file leaves it open, and none of the metrics `measured` (as
    train.metrics has them) says it of the metric."""
    if search.direction:
        return search.direction
    rises = higher_is_better(measured, search.metric)
    if rises is None:
        raise BadInput(f"{shown(file)}: direction: missing: whether less or more of metric = {quoted(search.metric)} "
                       'is better: set "minimize" or "maximize"')
    return "maximize" if rises else "minimize"


def size(axis: Axis) -> int:
    """How many values an axis has that has steps."""
    return len(axis.choices) or math.floor((axis.high - axis.low) / (axis.step or 1) + 1e-9) + 1


def grid_of(axes: tuple[Axis, ...]) -> dict[str, list]:
    """{key: all its labels} of axes that have steps."""
    def values(axis):
        if axis.choices:
            return list(axis.labels)
        found = [min(axis.high, axis.low + i * (axis.step or 1)) for i in range(size(axis))]
        return [int(value) for value in found] if axis.whole else found

    return {axis.key: values(axis) for axis in axes}


def overrides_of(axes: tuple[Axis, ...], params: Mapping[str, Any]) -> list[str]:
    """What a trial changes in the recipe, as `key=value` texts."""
    return [as_override(axis.key, axis.value(params[axis.key])) for axis in axes]


def _leaves(table: Mapping[str, Any], file: Path, within: tuple = ()) -> Iterator[tuple[str, Any]]:
    """(dotted key, what is said of it); a key may be dotted or quoted, or a table of its own."""
    for name, said in table.items():
        place = (*within, *name.split("."))
        if isinstance(said, dict) and said and not said.keys() & (OF_RANGE | OF_CHOICE):
            yield from _leaves(said, file, place)
        else:
            yield ".".join(place), said


def _axis(where: str, key: str, said: Any) -> Axis:
    if not isinstance(said, dict) or not said:
        raise BadInput(f"{where} = {quoted(said)}: {WANTED}")
    if odd := said.keys() - (OF_CHOICE if "choices" in said else OF_RANGE):
        name = min(odd)
        raise BadInput(f"{where}.{name}: unknown beside {', '.join(sorted(said.keys() - odd))}; {WANTED}"
                       f"{did_you_mean(name, OF_RANGE | OF_CHOICE)}")
    if "choices" in said:
        return _choices(where, key, said["choices"])
    if missing := {"low", "high"} - said.keys():
        raise BadInput(f"{where}.{min(missing)}: missing; {WANTED}")
    for name in ("low", "high", "step"):
        value = said.get(name, 0)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise BadInput(f"{where}.{name} = {quoted(value)}: expected a finite number")
    low, high, step, log = said["low"], said["high"], said.get("step"), said.get("log", False)
    whole = type(low) is type(high) is int
    problems = {
        f"low = {low}: expected less than high = {high}": low >= high,
        f"log = {quoted(log)}: expected true or false": type(log) is not bool,
        f"low = {low}: log = true wants it above 0": log is True and low <= 0,
        f"step = {step}: log = true has no steps; leave one of them out": log is True and step is not None,
        f"step = {step}: expected more than 0": step is not None and step <= 0,
        f"step = {step}: expected a whole number, as low and high are": whole and type(step) is float}
    if wrong := next((text for text, holds in problems.items() if holds), None):
        raise BadInput(f"{where}.{wrong}")
    kind = int if whole else float
    return Axis(key, kind(low), kind(high), step, log)


def _choices(where, key, choices):
    if not isinstance(choices, list) or not 0 < len(choices) <= MOST:
        raise BadInput(f"{where}.choices = {quoted(choices)}: expected a list of 1 to {MOST} values of the key")
    axis = Axis(key, choices=tuple(choices))
    if len(axis.labels) < len(choices):
        raise BadInput(f"{where}.choices = {quoted(choices)}: a value is there twice; take it out")
    return axis
