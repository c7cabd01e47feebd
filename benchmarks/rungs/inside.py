"""Where two programs of a user's first part inside: their modules side by side, as both rooms have seen them at work on
a few rows at generic weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinscale.benchmarks.compare_collect import precisions
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs.cause import cause
from twinscale.benchmarks.rungs.ladder import bare
from twinscale.benchmarks.workers import Worker, each
from twinscale.common.families.pair import Pair
from twinscale.common.families.places import WHOLE, is_whole
from twinscale.common.pairs.first import canonical_names, read_first
from twinscale.common.pairs.judge import generic_values
from twinscale.common.pairs.match import Line, Match
from twinscale.common.pairs.parting import Known, Parting, backward_parting, parting
from twinscale.common.pairs.sight import read_sight
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.schema import Recipe

WHO = "a is the Keras model, b its port"


def looked_inside(recipe: Recipe, verdict: dict[str, Any], out: Path, workers: Mapping[str, Worker]) -> dict[str, Any]:
    """A verdict with what both programs of a pair do inside, in each precision of the comparison, and its sentence with
    where they first part; of any other model the verdict as it is."""
    if not (is_whole(recipe.model) and isinstance(recipe.model, Pair)):  # of a family from outside we know no programs
        return verdict
    tensors, start = read_first(recipe.model.start)
    gradients = next(rung for rung in verdict["rungs"] if rung["name"] == "P2")["checks"]
    found = {}
    for described in precisions(recipe):
        precision = described.train.precision
        off = {bare(check["where"]).split(" ")[0] for check in gradients if not check["agrees"]
               and check["what"] == precision and check["where"].startswith("gradients/")}
        values = generic_values(tensors, start, precision, 0)
        found[precision] = _inside(described, tensors, values, off, out, workers)
    first = next((precision for precision, inside in found.items() if inside["place"]), None)
    more = f" {words(found[first], first)}" if first and not verdict["agrees"] else ""
    return verdict | {"inside": found, "sentence": verdict["sentence"] + more}


def words(inside: Mapping[str, Any], precision: str) -> str:
    """Where two programs first part, in a sentence or three."""
    how = "" if inside["training"] else ", as they are evaluated"
    return " ".join(filter(None, [f"Inside, in {precision}{how}, they first part {inside['place']}.", inside["cause"],
                                  f"({WHO}; {inside['coverage']}.)"]))


def cause_inside(verdict: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first cause where two programs of a verdict part inside, as `cause` has it; None where they do not, or where
    P0 has found that what both share is not shared."""
    is_shared = all(rung["agrees"] for rung in verdict["rungs"] if rung["name"] == "P0")
    for precision, inside in (verdict.get("inside") or {}).items():
        if inside["place"] and is_shared:
            at: Mapping[str, Any] = next((row for row in inside["modules"] if row["parts"]), {})
            apart = max((row for row in (at.get("inputs"), at.get("outputs")) if row is not None), default=None)
            found = cause(WHOLE, at.get("a", "head"), "forward" if at else "backward", 0, apart, inside["bound"])
            return found | {"sentence": words(inside, precision).removesuffix(".")}
    return None


def _inside(recipe: Recipe, tensors: tuple[Tensor, ...], values: dict[str, Any], off: set[str], out: Path,
            workers: Mapping[str, Worker]) -> dict[str, Any]:
    """An Inside: of the pair at work as it trains, and where nothing parts there and something moves in training alone,
    as it is evaluated."""
    training = _parted(recipe, tensors, values, out, workers, True)
    ways = [(True, training)]
    if not training.place and not all(tensor.trained for tensor in tensors):
        ways.append((False, _parted(recipe, tensors, values, out, workers, False)))
    is_training, seen = next((way for way in ways if way[1].place), ways[0])
    names = canonical_names(tensors)
    place = seen.place or backward_parting([one.a for one in training.modules], {
        tensor.module for tensor in tensors if names[tensor.path] in off})
    return {"training": is_training, "place": place, "cause": seen.cause, "coverage": seen.coverage,
            "bound": seen.bound, "modules": [vars(one) for one in seen.modules]}


def _parted(recipe, tensors, values, out, workers, training) -> Parting:
    files, precision = ComparisonFiles(out), recipe.train.precision
    paths = each(workers, lambda worker: files.sight(worker.backend, precision))
    lines = each(workers, lambda worker: worker.ask("leave_sight", recipe, path=paths[worker.backend],
                                                    training=training))["jax"]
    (keras, inputs), (jax, _) = (read_sight(paths[backend]) for backend in ("keras", "jax"))
    for path in paths.values():
        path.unlink()
    match = Match(tuple(Line(one["b"], tuple(one["a"]), tuple(map(tuple, one["steps"]))) for one in lines))
    return parting((keras, jax), Known(match, tensors, values, inputs, precision))
