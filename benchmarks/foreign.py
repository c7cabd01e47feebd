"""Two trainings of which one at least was never run by Twinscale: how far their losses are apart, step by step.

Whether that is more than rounding, a twin would say, and of a foreign training there is none. So nothing is bounded
here, and it is left open whether they agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.benchmarks.comparison_files import DIFFERENCES, ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import again, clear, made, nothing_left
from twinscale.benchmarks.report.foreign import show, write_differences
from twinscale.benchmarks.results import SCHEMA_VERSION, Differences
from twinscale.benchmarks.runs import KIND, SIDES, label
from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists, plain, shown
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RunFiles
from twinscale.common.foreign.curves import Curve, is_foreign, read_curve
from twinscale.common.foreign.weights import apart
from twinscale.common.training.run import read_run
from twinscale.common.training.run_metrics import read_metrics

LOSS = "train/loss"  # of our own runs
MOST = 10_000  # steps that differences.json keeps
OURS = "Twinscale"  # the form of a run of ours


@dataclass(frozen=True)
class Asked:
    """What was asked for of two trainings. The columns are of the sides that have such: one for both, or one each."""

    step: tuple[str, ...] = ()
    loss: tuple[str, ...] = ()
    shift: int = 0  # that the second side's steps are counted higher by
    weights: tuple[Path, Path] | None = None  # checkpoints
    match: Path | None = None  # match.toml, by which they are compared


def compare_foreign(a: Path, b: Path, out: Path, asked: Asked, *, overwrite: bool = False, as_json: bool = False
                    ) -> int:
    """`compared_foreign`, whose result is shown or printed `as_json`; returns the exit code, which is that of an open
    question."""
    found = compared_foreign(a, b, out, asked, overwrite=overwrite)
    answer(plain(found), show, as_json)
    return found.exit_code


def compared_foreign(a: Path, b: Path, out: Path, asked: Asked, *, overwrite: bool = False) -> Differences:
    """Writes differences.json, report.html and report.md of two trainings into `out`; returns the Differences.

    Raises BadInput where a file is no curve, or no step is in both.
    """
    found = differences(a, b, out, asked)
    with nothing_left(out):
        clear(out, replace(KIND, finished=DIFFERENCES), {"verb": "compare-runs"}, overwrite)
        written = write_result(ComparisonFiles(out).differences, Differences, found)
        write_differences(found, out)
    return written


def differences(a: Path, b: Path, out: Path, asked: Asked) -> dict[str, Any]:
    """What differences.json says of two trainings."""
    foreign = [is_foreign(path) for path in (a, b)]
    steps, losses = (each(name, values, foreign) for name, values in (("step", asked.step), ("loss", asked.loss)))
    curves = {side: read_curve(path, step, loss) if of_others else of_run(path) for side, path, of_others, step, loss
              in zip(SIDES, (a, b), foreign, steps, losses, strict=True)}
    if asked.shift:
        curves["b"] = replace(curves["b"], steps=curves["b"].steps + asked.shift)
    shared, x, y = both(curves)
    rows = Rows(shared, x, y, np.abs(y - x))
    kept = thinned(rows.difference)
    labels = labels_of(a, b, curves)
    parted = np.flatnonzero(rows.difference)
    found = {"first": rows.at(parted[0]) if parted.size else None, "largest": rows.at(np.argmax(rows.difference)),
             "final": rows.at(len(shared) - 1)}
    nothing = [None] * len(kept)
    return {
        "schema_version": SCHEMA_VERSION, "sides": labels, "bounded": False,
        "sentence": sentence(labels, found, len(shared)), "read": {side: described(c) for side, c in curves.items()},
        "shared": len(shared), "equal": len(shared) - len(parted), **found,
        "curve": {"steps": shared[kept].tolist(), "a": x[kept].tolist(), "b": y[kept].tolist(),
                  "difference": rows.difference[kept].tolist(), "envelope": nothing, "bound": nothing,
                  "horizon": None},
        "thinned": len(kept) < len(shared), "weights": weights_of(asked),
        "limits": limits(curves, labels, shared, asked), "made": made(),
        "commands": again("compare-runs", *words(a, b, asked), out=out)}


# ---- what is read

def each(name: str, values: Sequence[str], foreign: Sequence[bool]) -> list[str | None]:
    """The column of either side: of one value, the same for each foreign one."""
    if len(values) > 2 or len(values) == 2 and not all(foreign):
        raise BadInput(f"--{name}-column: given {len(values)} times, but {sum(foreign)} of the sides are not of "
                       "Twinscale: give it once, or once for each of two such sides")
    if len(values) == 2:
        return list(values)
    return [values[0] if values and of_others else None for of_others in foreign]


def of_run(path: Path) -> Curve:
    """The curve of a run of ours, with a trace or without."""
    read_run(path)
    points = {line["step"]: line[LOSS] for line in read_metrics(path) if line.get(LOSS) is not None}
    if not points:
        raise BadInput(f"{RunFiles(path).metrics}: holds no {LOSS}; train it, or restore the file")
    return Curve(path, OURS, "step", LOSS, np.array(list(points), np.int64), np.array([*points.values()], float))


def both(curves: Mapping[str, Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the steps that both curves have, the losses of either there). Raises BadInput where there are none."""
    shared, of_a, of_b = np.intersect1d(curves["a"].steps, curves["b"].steps, assume_unique=True, return_indices=True)
    if not shared.size:
        spans = [f"{shown(c.path)} has {len(c.steps):,} from {c.steps[0]} to {c.steps[-1]}" for c in curves.values()]
        raise BadInput(f"no step is in both: {', '.join(spans)}; where they count otherwise, --shift N adds N to the "
                       "second's")
    return shared, curves["a"].losses[of_a], curves["b"].losses[of_b]


def weights_of(asked: Asked) -> dict[str, Any] | None:
    """How far the checkpoints that were named are apart, as a Weights; None where none were."""
    if asked.weights is None:
        if asked.match is not None:
            raise BadInput("--match: for --weights CK_A CK_B, two checkpoints, which are not given")
        return None
    return apart(*asked.weights, asked.match)


# ---- what is said

@dataclass(frozen=True)
class Rows:
    """Shared steps, both losses, and their absolute difference; (N,) each."""

    steps: np.ndarray
    a: np.ndarray
    b: np.ndarray
    difference: np.ndarray

    def at(self, index: Any) -> dict[str, Any]:
        """One of them, as an Apart."""
        a, b, difference = (float(x[index]) for x in (self.a, self.b, self.difference))
        larger = max(abs(a), abs(b))
        return {"step": int(self.steps[index]), "a": a, "b": b, "difference": difference,
                "relative": difference / larger if larger else 0.0}


def thinned(difference: np.ndarray) -> np.ndarray:
    """Indices of at most MOST steps, of each stretch the one with the largest difference; the last is among them."""
    if len(difference) <= MOST:
        return np.arange(len(difference))
    parts = np.array_split(np.arange(len(difference) - 1), MOST - 1)
    return np.array([*(part[np.argmax(difference[part])] for part in parts), len(difference) - 1])


def labels_of(a: Path, b: Path, curves: Mapping[str, Curve]) -> dict[str, str]:
    """Either side in a few words."""
    infos = [{"path": path, "info": read_run(path)} if curves[side].form == OURS else None
             for side, path in zip(SIDES, (a, b), strict=True)]
    alike = a.name == b.name
    return {side: label(info, {"path": path if alike else path / "other"}) if info else
            f"{shown(path if alike else path.name, 80)} ({curves[side].form})"
            for side, path, info in zip(SIDES, (a, b), infos, strict=True)}


def described(curve: Curve) -> dict[str, Any]:
    """A Read."""
    return {"path": str(curve.path), "form": curve.form, "step": curve.step, "loss": curve.loss,
            "steps": len(curve.steps), "first": int(curve.steps[0]), "last": int(curve.steps[-1])}


def sentence(labels: Mapping[str, str], found: Mapping[str, Any], shared: int) -> str:
    """What was found, in two sentences: how far they are apart, and that nobody can say what that means."""
    one, other = labels.values()
    open_ = "It cannot be said whether they agree: without a twin there is no bound."
    first, largest, final = (found[name] for name in ("first", "largest", "final"))
    if first is None:
        return f"{one} and {other}: equal losses in all {shared:,} steps that both have. {open_}"
    return (f"{one} and {other}: of {shared:,} steps that both have, losses first differ at step {first['step']:,}, by "
            f"{sig(first['difference'])}, most at step {largest['step']:,}, by {sig(largest['difference'])} "
            f"({share(largest['relative'])}), and at the last, {final['step']:,}, by {sig(final['difference'])}. "
            f"{open_}")


def share(value: float) -> str:
    """A share in percent, a small one as it is."""
    return f"{sig(100 * value)} %" if value >= 1e-4 else f"{sig(value)} of it"


def limits(curves: Mapping[str, Curve], labels: Mapping[str, str], shared: np.ndarray, asked: Asked) -> list[str]:
    """What these differences do not say."""
    ours = [side for side in SIDES if curves[side].form == OURS]
    found = [f"{labels[side]} was not run by Twinscale: it has no twin, so that nothing tells its rounding from an "
             "error" for side in SIDES if side not in ours]
    found += [said for side in ours if (said := own_twin(curves[side], labels[side], shared))]
    found.append(f"{'' if asked.weights else 'weights, '}batches, optimizer and data are not compared: equal losses "
                 "are no proof that they are equal")
    a, b = (curves[side] for side in SIDES)
    if a.step != b.step and {"epoch"} & {a.step.lower(), b.step.lower()}:
        found.append(f"{labels['a']} counts by {shown(a.step)}, {labels['b']} by {shown(b.step)}: these may not be one "
                     "thing")
    if a.steps[0] != b.steps[0]:
        found.append(f"{labels['a']} begins at step {a.steps[0]:,}, {labels['b']} at {b.steps[0]:,}: where one of them "
                     "counts otherwise (Twinscale from 0), `--shift` N adds N to the second's steps")
    if asked.shift:
        found.append(f"{asked.shift} was added to the steps of {labels['b']}")
    alone = {side: len(curves[side].steps) - len(shared) for side in SIDES}
    found += [f"of {labels[side]} {count:,} of {len(curves[side].steps):,} steps are not in the other"
              for side, count in alone.items() if count]
    return found


def own_twin(curve: Curve, label: str, shared: np.ndarray) -> str:
    """How far a run of ours is from its own twin over the shared steps, in words; "" where it has none."""
    twin = RunFiles(curve.path).twin
    if not exists(RunFiles(twin).info):
        return ""
    other = of_run(twin)
    steps, of_run_, of_twin = np.intersect1d(curve.steps, other.steps, assume_unique=True, return_indices=True)
    apart = np.abs(curve.losses[of_run_] - other.losses[of_twin])[np.isin(steps, shared)]
    if not apart.size:
        return ""
    return (f"{label} and its own twin are apart by up to {sig(apart.max())} over {apart.size:,} of these steps, which "
            "is how far rounding takes that one; it bounds nothing of the other")


def words(a: Path, b: Path, asked: Asked) -> list[str]:
    """What was asked for, as words of a command."""
    found = [str(a), str(b), *(word for name, values in (("step", asked.step), ("loss", asked.loss))
                               for value in values for word in (f"--{name}-column", value))]
    found += ["--shift", str(asked.shift)] if asked.shift else []
    found += ["--weights", *map(str, asked.weights)] if asked.weights else []
    return found + (["--match", str(asked.match)] if asked.match else [])
