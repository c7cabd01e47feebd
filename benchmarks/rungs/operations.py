"""P1 of the parity ladder: every operation of the model in its place, and if asked every one by itself against
references, as `common/operations/in_place.py` and `common/operations/judge.py` have them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NotRequired

from typing_extensions import TypedDict

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs.ladder import TINY, check, rung
from twinscale.benchmarks.sides import LABELS
from twinscale.benchmarks.workers import Trainer, one_behind
from twinscale.common.files.access import read_json, write_json
from twinscale.common.files.kinds import STRICT, Number
from twinscale.common.operations.known import stale_deviations
from twinscale.common.operations.points import POINTS
from twinscale.common.recipe.schema import in_sharpest

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Check, Rung
    from twinscale.common.recipe.schema import Recipe

AGAIN = "make it again with --overwrite"
WAYS = {"forward": "forward", "backward": "cotangent", "gradients": "gradient", "running": "running statistics",
        "loss": "sum"}


class PlaceRow(TypedDict):
    """A row of `common.operations.in_place.place_rows`; null is what was not finite."""

    __pydantic_config__ = STRICT

    place: str
    operation: str
    way: Literal["forward", "backward", "gradients", "running", "loss"]
    tensor: str
    error: Number | None
    bound: Number
    beside: Number | None
    rare: Number | None


class PlaceRows(TypedDict):
    """What `common.training.trace.places_at` returns."""

    __pydantic_config__ = STRICT

    own: list[PlaceRow]
    float64: list[PlaceRow]
    dtypes: NotRequired[dict[str, str]]


def read_places(path: Path) -> dict[str, PlaceRows]:
    """{point: PlaceRows} of what a backend has found at its places."""
    return read_json(path, dict[Literal[*POINTS], PlaceRows], AGAIN)


def leave_places(worker: Trainer, recipe: "Recipe", out: Path, point: str | Path, theirs: str | None = None,
                 shared: bool = False) -> dict[str, Any]:
    """Has a backend feed its places with shared numbers at a point, one of POINTS or the file of a state before a step,
    and returns its PlaceRows. Who comes first makes the numbers up; `theirs` is the other backend, whose float64 is
    already there. Of work that is `shared` with a copy, this worker's is the recipe's own precision."""
    def path(what):
        return ComparisonFiles(out).numbers(Path(point).stem, what)

    others = {"theirs": path(theirs)} if theirs else {}
    mine = worker.backend
    if shared:
        others["beside"], mine = path(mine), f"{mine}-own"
    return worker.ask("places_at", recipe, point=point, given=path("given"), mine=path(mine), **others)


def collect_places(workers: Mapping[str, Trainer], recipe: "Recipe", out: Path,
                   before: Callable[[Any], Any] = lambda worker: None) -> None:
    """Has both backends leave PlaceRows of every point in `out`, and none of the numbers: JAX leads, and Keras
    follows a point behind. Each goes on to its places when `before(worker)` is done. Where a backend has a copy beside
    its worker, under another name than its own, the copy does what is in float64."""
    looked = on_one_device(recipe)
    shared = {worker.backend for name, worker in workers.items() if name != worker.backend}

    def look(worker, point):
        if worker.backend not in shared:
            return leave_places(worker, looked, out, point, leader(worker))
        if worker is workers[worker.backend]:
            return leave_places(worker, looked, out, point, shared=True)
        return leave_places(worker, in_sharpest(looked), out, point, leader(worker))

    found = one_behind(workers, POINTS[1:], look, before)
    for name, worker in workers.items():
        if name != worker.backend:
            for point, rows in found[name].items():
                found[worker.backend][point]["float64"] = rows["float64"]
    for backend in {worker.backend for worker in workers.values()}:
        write_json(places_path(out, backend), found[backend])
    for path in ComparisonFiles(out).all_numbers():
        path.unlink()


def leader(worker: Trainer) -> str | None:
    """The backend whose float64 a worker's places are judged beside; None of the one that leads."""
    return "jax" if worker.backend == "keras" else None


def collect_own_places(worker: Trainer, recipe: "Recipe", out: Path, theirs: str | None = None) -> None:
    """Has one backend leave its PlaceRows in `out`, and the numbers with them: beside those of `theirs`, if given."""
    looked = on_one_device(recipe)
    rows = {point: leave_places(worker, looked, out, point, theirs) for point in POINTS[1:]}
    write_json(places_path(out, worker.backend), rows)


def places_path(out: Path, backend: str) -> Path:
    """The file of what a backend has found at its places."""
    return ComparisonFiles(out).places(backend)


def on_one_device(recipe: "Recipe") -> "Recipe":
    """The recipe on one device, where places are read."""
    axes = ("hosts", "replica", "data", "fsdp", "tensor", "sequence")
    return recipe.with_values(devices=dict.fromkeys(axes, 1))


def place_checks(found: Mapping[str, Mapping[str, PlaceRows]], precision: str) -> "list[Check]":
    """The checks of what both backends found at their places, {backend: {point: PlaceRows}}."""
    checks = []
    for backend, points in found.items():
        own = f"{precision}, {LABELS[backend]}"
        for point, rows in points.items():
            for row in rows["own"]:
                checks.append(place_check(own, row, point, f"eps of {precision}: derived"))
                if row["beside"] is not None:
                    where = f"{row['place']}, rounded twice at the {point} point"
                    checks.append(check(own, row["beside"], row["rare"] or 0.0, where,
                                        "share of values that are not the nearest ones"))
            for row in rows["float64"]:
                checks.append(place_check("float64, one backend beside the other", row, point,
                                          "eps of float64: derived"))
    return checks


def place_check(what: str, row: PlaceRow, point: str, source: str) -> "Check":
    """The check of one row."""
    worst = math.inf if row["error"] is None else row["error"]
    name = row["place"] if row["way"] in ("forward", "backward") else row["tensor"].partition("/")[2]
    return check(what, worst, row["bound"], f"{name}, {WAYS[row['way']]} at the {point} point", source)


def place_table(found: Mapping[str, Mapping[str, PlaceRows]]) -> list[dict[str, Any]]:
    """[{"place", "operation", and for each backend and for "float64" the worst of all that it makes there, as a part of
    its bound, or None}], in forward order."""
    table = {}
    for backend, points in found.items():
        for rows in points.values():
            for column, own in ((backend, rows["own"]), ("float64", rows["float64"])):
                for row in own:
                    entry = table.setdefault(row["place"], {"place": row["place"], "operation": row["operation"],
                                                            "keras": None, "jax": None, "float64": None})
                    entry[column] = max(entry[column] or 0.0, part(row))
    return list(table.values())


def part(row: PlaceRow) -> float:
    """How much of its bound a row has used."""
    used = math.inf if row["error"] is None else row["error"] / max(row["bound"], TINY)
    return used if row["beside"] is None else max(used, row["beside"] / max(row["rare"] or 0.0, TINY))


def operations_rung(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, PlaceRows]] | None = None,
                    precision: str = "float64") -> "Rung":
    """P1, from the rows of both backends' `operation_rows`, if measured, each with the "title" of its side, and what
    both found at their places, {backend: {point: PlaceRows}}, in the recipe's precision.

    A listed deviation does not count, nor does what the frameworks' stock functions do in the place of ours. Beside a
    rung's keys: "places", as `place_table`; "known", the excused rows of ours; "stock", the rows of stock functions
    that are above their bounds; "stale", the listed deviations that the rows no longer show.
    """
    ours = [row for row in rows if not row["stock"]]
    checks = place_checks(found or {}, precision)
    checks += [check(f"{row.get('title', row['backend'])} {row['dtype']}", row["error"], row["bound"],
                     f"{row['operation']}, {row['case']} ({row['how']})", f"eps: {row['bound_from']}")
               for row in ours if row["known"] is None]
    made = rung("P1", "operations", "one arithmetic: every operation as near its reference as rounding allows", checks)
    return made | {"places": place_table(found or {}),
                   "known": [row for row in ours if row["known"] is not None],
                   "stock": [row for row in rows if row["stock"] and not row["agrees"]],
                   "stale": stale_deviations(rows)}
