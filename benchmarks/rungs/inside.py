"""Where two programs of a user's first part inside: their modules side by side, as both rooms have seen them at work on
a few rows at generic weights."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twinscale.benchmarks.compare_collect import precisions
from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.rungs.cause import cause
from twinscale.benchmarks.rungs.ladder import bare
from twinscale.benchmarks.sides import who
from twinscale.benchmarks.workers import Trainer, each
from twinscale.common.families.pair import Pair
from twinscale.common.families.places import WHOLE, is_whole
from twinscale.common.pairs.first import canonical_names, read_first
from twinscale.common.pairs.judge import generic_values
from twinscale.common.pairs.match import Line, Match
from twinscale.common.pairs.parting import Known, Parting, Sight, all_partings, backward_parting, last_off, parting
from twinscale.common.pairs.program import Seen
from twinscale.common.pairs.sight import read_sight, write_sight
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.schema import Recipe


def looked_inside(recipe: Recipe, verdict: dict[str, Any], out: Path, workers: Mapping[str, Trainer],
                  behind: bool = True) -> dict[str, Any]:
    """A verdict with what both programs of a pair do inside, in each precision of the comparison, and its sentence with
    where they first part; of any other model the verdict as it is. `behind`: whether what lies behind is looked for
    too, for which the second one is fed."""
    if not (is_whole(recipe.model) and isinstance(recipe.model, Pair)):  # of a family from outside we know no programs
        return verdict
    gradients = next(rung for rung in verdict["rungs"] if rung["name"] == "P2")["checks"]
    off: dict[str, set[str]] = {}
    for described in precisions(recipe):
        kinds = described.train.precision, f"{described.train.precision}, null direction"
        off[described.train.precision] = {bare(check["where"]).split(" ")[0] for check in gradients if check["what"] in
                                          kinds and check["where"].startswith("gradients/") and not check["agrees"]}
    found = seen_inside(recipe, off, out, workers, behind)
    first = next((precision for precision, inside in found.items() if inside["place"]), None)
    more = f" {words(found[first], first, who(recipe.model))}" if first and not verdict["agrees"] else ""
    return verdict | {"inside": found, "sentence": verdict["sentence"] + more}


def seen_inside(recipe: Recipe, off: Mapping[str, set[str]], out: Path, workers: Mapping[str, Trainer],
                behind: bool = False) -> dict[str, dict[str, Any]]:
    """{precision: Inside} of a recipe's pair, as its workers show it; `off` has, by precision, the tensors by canonical
    name whose gradients differ; `behind` as `looked_inside` has it."""
    assert isinstance(recipe.model, Pair)  # whoever asks has looked
    tensors, start = read_first(recipe.model.start)
    found: dict[str, dict[str, Any]] = {}
    for described in precisions(recipe):
        precision = described.train.precision
        values = generic_values(tensors, start, precision, 0)
        found[precision] = _inside(tensors, off.get(precision, set()), partial(
            _parted, described, tensors, values, out, workers, behind))
    return found


def words(inside: Mapping[str, Any], precision: str, named: str = who(None)) -> str:
    """Where two programs first part, in a sentence or three, and how often else; `named` says which of them is called
    a, and which b."""
    how = "" if inside["training"] else ", as they are evaluated"
    count = len(inside.get("others") or ())
    more = f"Fed with a's values behind it, b parts at {count} more place{'s' * (count > 1)}." if count else ""
    return " ".join(filter(None, [f"Inside, in {precision}{how}, they first part {inside['place']}.", inside["cause"],
                                  more, f"({named}; {inside['coverage']})."]))


def cause_inside(verdict: Mapping[str, Any], named: str = who(None)) -> dict[str, Any] | None:
    """The first cause where two programs of a verdict part inside, as `cause` has it; None where they do not, or where
    P0 has found that what both share is not shared."""
    is_shared = all(rung["agrees"] for rung in verdict["rungs"] if rung["name"] == "P0")
    for precision, inside in (verdict.get("inside") or {}).items():
        if inside["place"] and is_shared:
            at: Mapping[str, Any] = next((row for row in inside["modules"] if row["parts"]), {})
            apart = max((row for row in (at.get("inputs"), at.get("outputs")) if row is not None), default=None)
            where = at.get("a") or inside.get("at") or "head"
            phase = "backward" if inside["place"].startswith("backward") else "forward"
            found = cause(WHOLE, where, phase, 0, apart, inside["bound"])
            return found | {"place": inside["place"], "sentence": words(inside, precision, named).removesuffix(".")}
    return None


def _inside(tensors: tuple[Tensor, ...], off: set[str], parted: Callable[[bool], Parting]) -> dict[str, Any]:
    """An Inside: of the pair at work as it trains, and where nothing parts there and something moves in training alone,
    as it is evaluated."""
    training = parted(True)
    ways = [(True, training)]
    if not training.place and not all(tensor.trained for tensor in tensors):
        ways.append((False, parted(False)))
    is_training, seen = next((way for way in ways if way[1].place), ways[0])
    names, order = canonical_names(tensors), [one.a for one in training.modules]
    of_off = {tensor.module for tensor in tensors if names[tensor.path] in off}
    at = None if seen.place else last_off(order, of_off)
    return {"training": is_training, "place": seen.place or backward_parting(order, of_off), "at": at,
            "cause": seen.cause, "coverage": seen.coverage, "bound": seen.bound,
            "modules": [vars(one) for one in seen.modules],
            "others": [{"place": place, "cause": why} for place, why in seen.others]}


def _parted(recipe, tensors, values, out, workers, behind, training) -> Parting:
    files, precision = ComparisonFiles(out), recipe.train.precision
    paths = each(workers, lambda worker: files.sight(worker.backend, precision))
    lines = each(workers, lambda worker: worker.ask("leave_sight", recipe, path=paths[worker.backend],
                                                    training=training))["jax"]
    (keras, inputs), (jax, _) = (read_sight(paths[backend]) for backend in ("keras", "jax"))
    match = Match(tuple(Line(one["b"], tuple(one["a"]), tuple(map(tuple, one["steps"]))) for one in lines))
    known = Known(match, tensors, values, inputs, precision)

    def again(fed: Sequence[Seen]) -> Sight:
        write_sight(paths["jax"], Sight(tuple(fed), {}, 0.0), {})
        workers["jax"].ask("leave_fed_sight", recipe, path=paths["jax"], training=training)
        return read_sight(paths["jax"])[0]

    found = all_partings((keras, jax), known, again) if behind else parting((keras, jax), known)
    for path in paths.values():
        path.unlink()
    return found
