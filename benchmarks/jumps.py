"""A second look at families with steps in their gradient: networks of ReLUs.

The value of a ReLU is continuous and its gradient is not: where rounding carries a unit over zero, one backend has a
share of a gradient that the other has not, however small the rounding. Of recipes/convnet-mnist5k.toml one step in
twenty has such a flip; it costs the gradient a hundred times its noise, and a twin at the same step shows none. So
where P2 or P5 part in the recipe's precision, and nothing else does, steps are judged as trials from equal states, by
`benchmarks.rungs.flips`: a flip is rare, and what is wrong in a program is wrong in every trial. The loss of a step
from equal states has no flips, nor have its logits: they are judged by their noise alone, always. In float64 hardly any
unit is so close to zero: P2, P4 and P6 stay as they are.

A loud twin of these nets parts by its noise too, LOUD times a twin's, whose median has no flip in it unless every other
step has one; only what is more than that has flipped.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.meshes import jumps
from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.flips import LOUD, flip_checks, shadowed, until_jump
from twinscale.benchmarks.workers import ROOMS, Worker, each
from twinscale.common.calls.trials import furthest
from twinscale.common.files.tensors import load_tensors
from twinscale.common.numbers.formats import RESOLVED
from twinscale.common.recipe.schema import Recipe, positions

if TYPE_CHECKING:
    from twinscale.benchmarks.verdict import Check, Rung

TRIALS = 16  # steps that are judged from equal states
OF = ("P2", "P5")  # rungs that a flip can fail


def may_be_flips(recipe: Recipe, verdict: dict[str, Any]) -> bool:
    """Whether all that fails is what a flip can do: gradients and losses of a network of ReLUs, in less than
    float64."""
    precision = recipe.train.precision
    failed = [(rung["name"], c) for rung in verdict["rungs"] for c in rung["checks"] if not c["agrees"]]
    return precision != "float64" and jumps(recipe) and bool(failed) and all(
        flips_can(name, check, precision) for name, check in failed)


def flips_can(name: str, check: "Check", precision: str) -> bool:
    """Whether a flip can fail a rung's check: gradients at once, losses later, and what an evaluation at the end finds,
    but for counts that are to be equal to the bit."""
    if name == "P2":
        return check["what"] == precision and "gradients/" in check["where"]
    evaluated = check["what"].startswith(f"{precision} held-out ") and check["where"] == "the evaluation"
    return name == "P5" and (check["what"] == f"{precision} loss" or evaluated and check["bound"] > 0)


def second_look(recipe: Recipe, verdict: dict[str, Any], out: Path, workers: Mapping[str, Worker]) -> "list[Rung]":
    """The rungs of a verdict, with P2 and P5 judged from equal states where they had failed.

    Args:
      verdict: as `compare.judge` has it; its curves say how far P5 was judged.
      out: the comparison's directory; the trials' files go into its tensors/ and runs/.
    """
    precision = recipe.train.precision
    curve = verdict["curves"][precision]
    judged = len(curve["steps"]) if curve["horizon"] is None else max(1, curve["horizon"])
    steps = shadowed(judged, TRIALS)
    trials = trials_of(recipe, steps, out, workers)
    loss, checks = trial_checks(precision, trials, steps)
    rungs = []
    for rung in verdict["rungs"]:
        if rung["name"] in OF and not rung["agrees"]:
            kept = [c for c in rung["checks"] if c["agrees"]] if rung["name"] == "P2" else (
                free_checks(precision, curve, rung["checks"]))
            rung = ladder.rung(rung["name"], rung["title"], rung["proves"], [*kept, loss, *checks])
        rungs.append(rung)
    return rungs


def free_checks(precision: str, curve: dict[str, Any], checks: "Sequence[Check]") -> "list[Check]":
    """P5's own checks up to where the free runs jump apart: a drift stays judged. What an evaluation after a jump finds
    is P7's, as past a horizon; without one it stays judged."""
    found = until_jump(curve)
    others = [c for c in checks if c["what"] != f"{precision} loss" and (c["agrees"] or found["jump"] is None)]
    if found["jump"] is None:
        return [*others, ladder.loss_check(precision, curve)]
    if not found["jump"]:
        return others
    check = ladder.loss_check(precision, curve | {"horizon": found["jump"]})
    return [*others, check | {"where": f"step {check['where'].split()[1]}, before a flip at {found['jump']}"}]


def trials_of(recipe: Recipe, steps: list[int], out: Path, workers: Mapping[str, Worker]) -> dict[str, Any]:
    """{backend: what `common.calls.trials.step_trials` has left} from the states of Keras' run."""
    precision = recipe.train.precision
    teacher = ComparisonFiles(out).traced("keras", precision)
    probe = {"trace": "full", "traced": tuple(steps), "log_every": 1, "stop": max(steps) + 1, "evaluated": False,
             "saved": False}
    workers["keras"].ask("run_training", recipe, run_dir=teacher, probe=probe, progress=False, overwrite=True)
    paths = {b: ComparisonFiles(out).trials(b, precision) for b in ROOMS}
    each(workers, lambda worker: worker.ask("step_trials", recipe, path=paths[worker.backend], teacher=teacher,
                                            steps=steps, loud=LOUD))
    return {b: load_tensors(path) | {"positions": positions(recipe)} for b, path in paths.items()}


def trial_checks(precision: str, trials: Mapping[str, Any], steps: list[int]) -> "tuple[Check, list[Check]]":
    """(the check of the losses at the steps, by their noise; checks of the gradients and of the losses an update later,
    which flips may part)."""
    keras, jax = (trials[b] for b in ROOMS)
    pair = [furthest(*({name: x for name, x in t.items() if name.startswith(f"{step}/")} for t in (jax, keras)))
            for step in steps]
    twin, loud = (np.maximum(keras["apart"][j], jax["apart"][j]) for j in (0, 1))
    series = {"gradients": {"pair": np.array(pair), "twin": twin, "loud": loud,
                            "floor": np.full(len(steps), RESOLVED[precision])}}
    for n, what in enumerate(("loss", "loss an update later")):
        one, other = keras["loss"][..., n], jax["loss"][..., n]
        curve = ladder.loss_curve({"keras": {"loss": one[0]}, "jax": {"loss": other[0]},
                                   "positions": keras["positions"], "keras-twin": {"loss": one[0]},
                                   "jax-twin": {"loss": other[0]}}, precision, 1)
        far = [np.maximum(np.abs(one[j] - one[0]), np.abs(other[j] - other[0])) for j in (1, 2)]
        series[what] = {"pair": curve["difference"], "twin": far[0], "loud": far[1], "floor": curve["envelope"]}
    at_once = series.pop("loss")
    bound = 4 * np.maximum(at_once["twin"].max(), at_once["floor"])
    worst = int(np.argmax(np.where(np.isfinite(at_once["pair"]), at_once["pair"] / bound, np.inf)))
    loss = ladder.check(f"{precision} loss, from equal states", at_once["pair"][worst], bound[worst],
                        f"step {steps[worst]}", f"4 x the {precision} twin's noise")
    for found in series.values():  # what the loud twin's noise comes to without a flip
        found["spread"] = LOUD * np.maximum(np.median(found["twin"]), found["floor"])
    return loss, flip_checks(precision, series, steps)
