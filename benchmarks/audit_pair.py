"""The audit of a pair: what is planted inside one of its programs, which modules that is, and where it was found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from twinscale.benchmarks.compare_collect import precisions
from twinscale.benchmarks.comparison_files import TENSORS, ComparisonFiles
from twinscale.benchmarks.rungs.inside import cause_inside, looked_inside, seen_inside
from twinscale.benchmarks.rungs.ladder import bare
from twinscale.benchmarks.workers import ROOMS, Trainer, each
from twinscale.common.families.pair import Pair
from twinscale.common.files.access import read_json, write_json
from twinscale.common.operations.points import POINTS
from twinscale.common.pairs.first import canonical_names, read_first
from twinscale.common.planted.inside import AT, LOSE, STOP, offered, spots, unseen
from twinscale.common.recipe.schema import Recipe

STEPS = 4  # of a trial's trainings: what is planted in a program shows in the first
# How `parting` and `backward_parting` name a module.
ENDS = ("at", ","), ("between", " and "), ("after", ","), ("backward, at", " or ")
HARMLESS = "reversed_rows"  # what is planted besides, of what is in no program


def is_pair(recipe: Recipe | None) -> bool:
    """Whether a recipe's model is two programs of the user's, which are looked into."""
    return recipe is not None and isinstance(recipe.model, Pair)


def shortened(recipe: Recipe) -> Recipe:
    """A recipe whose trainings end after a few updates; as it is where its schedule does not let them."""
    steps = min(recipe.train.steps, STEPS)
    spans = {key: min(getattr(recipe.schedule, key), steps) for key in ("warmup",) if hasattr(recipe.schedule, key)}
    try:
        return recipe.with_values(train={"steps": steps}, schedule=spans)
    except ValidationError:
        return recipe


class Left:
    """Stands for the backend in which nothing is planted: it shows what was seen of its program before."""

    def __init__(self, backend: str, base: Path) -> None:
        self.backend, self.base = backend, base

    def ask(self, call: str, recipe: Any, **arguments: Any) -> Any:
        """As a Trainer's, of "leave_sight" alone."""
        assert call == "leave_sight", call
        seen, lines = sight_paths(self.base, self.backend, recipe.train.precision, arguments["training"])
        Path(arguments["path"]).symlink_to(seen.absolute())
        return read_json(lines, list[dict[str, Any]], "audit again with --overwrite")


def sight_paths(base: Path, backend: str, precision: str, training: bool) -> tuple[Path, Path]:
    """The files of what is seen of a backend's program where nothing is planted, and of the lines that it said."""
    seen = ComparisonFiles(base).sight(backend, f"{precision}-{'training' if training else 'evaluation'}")
    return seen, seen.with_suffix(".json")


def leave_sights(recipe: Recipe, worker: Trainer, base: Path) -> None:
    """Has a backend leave what is seen of its program where nothing is planted, in all precisions of a comparison."""
    (base / TENSORS).mkdir(parents=True, exist_ok=True)
    for described in precisions(recipe):
        for training in (True, False):
            seen, lines = sight_paths(base, worker.backend, described.train.precision, training)
            write_json(lines, worker.ask("leave_sight", described, path=seen, training=training))


def plan_inside(recipe: Recipe, listed: Mapping[str, Mapping[str, Any]], workers: Mapping[str, Trainer], base: Path,
                everything: bool) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """({backend: {name: what there is to plant}} of a pair, as `audit.plan` takes it, with a pair's places by name;
    [what does not apply, {"name", "backend", "lacks"}]). Of what is planted in no program only `HARMLESS`, unless
    `everything` is asked for."""
    assert isinstance(recipe.model, Pair)  # whoever asks has looked
    each(workers, lambda worker: leave_sights(recipe, worker, base))
    inside = next(iter(seen_inside(recipe, {}, base, {b: Left(b, base) for b in ROOMS}).values()))
    tensors, _ = read_first(recipe.model.start)
    modules = [(row["a"], row["b"]) for row in inside["modules"]]
    found = offered(listed, spots(tensors, modules))
    left = [{"name": f"*{AT}{module}", "backend": "keras", "lacks": ["partner that is seen"]}
            for module in unseen(tensors, modules)]
    return {backend: {name: row for name, row in rows.items() if everything or AT in name or name == HARMLESS}
            for backend, rows in found.items()}, left


def without_null(planned: Sequence[Any], recipe: Recipe, verdict: Mapping[str, Any]
                 ) -> tuple[list[Any], list[dict[str, Any]]]:
    """(trials, what does not apply): what has no gradient but for rounding, by a verdict with nothing planted, even
    where no weight is zero or one, loses none; of a module that is none of its tensors."""
    if not isinstance(recipe.model, Pair):
        return list(planned), []
    gradients = next(rung for rung in verdict["rungs"] if rung["name"] == "P2")["checks"]
    null = {bare(check["where"]).split(" ")[0] for check in gradients if check["what"] == "float64, null direction"
            and check["where"].endswith(f"at the {POINTS[1]} point")}
    tensors, _ = read_first(recipe.model.start)
    names = canonical_names(tensors)
    moved = {tensor.module for tensor in tensors if tensor.trained and names[tensor.path] not in null}

    def loses_nothing(t):
        kind, _, at = t["name"].partition(AT)
        return (kind == LOSE and at in null) or (kind == STOP and t["where"] not in moved)

    return [t for t in planned if not loses_nothing(t)], [
        {"name": t["name"], "backend": t["backend"], "lacks": ["gradient"]} for t in planned if loses_nothing(t)]


def placed_inside(recipe: Recipe, verdict: dict[str, Any], worker: Trainer, base: Path, path: Path
                  ) -> dict[str, Any] | None:
    """Where the programs of a verdict that fails first part, as `cause` has it; None where they do not, or where the
    recipe's model is no pair."""
    if not is_pair(recipe):
        return None
    sides = {b: worker if b == worker.backend else Left(b, base) for b in ROOMS}
    return cause_inside(looked_inside(recipe, verdict, path, sides, behind=False))


def is_at(place: str, module: str) -> bool:
    """Whether words of where two programs part name the module that something was planted in: at it, or between it and
    what comes next, where what it makes is right forward or cannot be held to its partner's."""
    return any(place.startswith(f"{before} {module}{after}") for before, after in ENDS)
