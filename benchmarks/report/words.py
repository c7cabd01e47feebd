"""The words of the report: what its terms mean, what a failed rung usually means, and each figure in a sentence.

Text between backticks is code, in HTML as in Markdown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.benchmarks.numbers import as_float, floats, horizon, margin_of, ratio, sig
from twinscale.benchmarks.report import plots
from twinscale.benchmarks.rounds import holds, ratio_interval

# What a newcomer needs to read a verdict.
TERMS = [
    ("Rung", "One level of the ladder. It proves one thing and leans on the rungs above it. Read from the top: the "
             "first that fails is where to look, and what fails below it may be its echo."),
    ("Observed, bound, margin",
     "Observed is the largest difference that was seen: of tensors relative to their largest entry, of losses as it "
     "is. The bound is the most that rounding explains. The margin is how often the observed fits into the bound: at "
     "10 × there is room. What is above its bound fails, and its margin says how often the bound fits into it: 3 × too "
     "far. A bound of 0 asks for equality to the last bit."),
    ("Twin, envelope",
     "A twin is a second run of the same side that only an allowed change sets apart: the rows of each batch in "
     "another order, the first weights moved by half a unit in their last place. Both runs are right, so their "
     "distance is rounding. The envelope is the largest distance of a side from its own twin so far."),
    ("Why gates are measured",
     "How far rounding drives two correct programs apart depends on the model, the steps and the machine. One "
     "tolerance, typed in, would be too tight for one recipe and hide errors in the next. So each bound is a small "
     "multiple of what the twins show, or follows from arithmetic; \"bound from\" says which."),
    ("Horizon",
     "Training amplifies differences, rounding too. The horizon is the first step at which a side has lost half of its "
     "digits to its own twin. Beyond it a right and a wrong program may be equally far apart, so losses are shown and "
     "not judged. Whether the ends are equivalent is P7's question."),
    ("Null direction",
     "A tensor whose gradient is mathematically zero, such as the bias of attention's keys. All that is computed there "
     "is rounding, and two roundings have no digit in common. It is found by the twins and judged absolutely."),
    ("float64, working precision",
     "float64 asks whether both sides mean the same: with 16 digits an error of the program stands far above the "
     "rounding. The working precision, float32 or bfloat16, is what the recipe trains in: it asks whether a side "
     "rounds more than it should."),
    ("First cause",
     "The first operation whose result differs though both sides gave it the same numbers, in the order in which one "
     "thing leads to another: data, forward, loss, backward, update, later steps. `twinscale bisect` looks for it."),
    ("Blame, leak",
     "The swap runs each program on each runtime. A difference that follows the program is the program's, one that "
     "stays with a runtime is the runtime's. A leak is an operation that was given float64 and computed in less."),
]

NULL = ("Their gradient is mathematically zero, so that all of it is rounding: a gradient is compared relative to the "
        "largest of the whole model, and a weight may be off by no more than two walks of such rounding can part under "
        "the recipe's optimizer.")

AUDIT_TERMS = [
    ("Planted error",
     "A mistake that ports really make, patched into one side, which then does all that a comparison asks of it. The "
     "other side stays as it is. Each is to be caught: at least one rung fails."),
    ("Placed", "The first cause that is named is the operation, at the place, where the error was planted."),
    ("Harmless change", "Another way to compute the same, such as another order of sums. It is never to be flagged."),
    ("A cell",
     "What the rung observed over its bound, where that is above 1: 1e6 stands a million times above what rounding "
     "explains. \"≠\": the rung asks for equality; \"∞\": the difference is not finite. In an empty cell the rung "
     "held, or was not run: where all is in float64, P5 is P4."),
    ("Signal", "The largest cell of a row: how far the error stands above the bound that caught it."),
    ("P0 to P5", "P0: what is shared is equal. P2: loss and gradients of the first step. P3: one update. P4: the "
                 "training in float64. P5: the training in the working precision."),
]


# ---- the figures in words

def ladder_words(rungs: Sequence[Mapping[str, Any]], skipped: Sequence[Mapping[str, Any]]) -> str:
    """What the figure of the ladder shows, and which rungs were not climbed."""
    within = [r for r in rungs if r.get("agrees")]
    words = f"{len(within)} of {len(rungs)} rungs are within their bound"
    exact = [r["name"] for r in within if ratio(r.get("worst"), r.get("bound")) == 0]
    words += f"; exact: {', '.join(exact)}. " if exact else ". "
    near = max((r for r in within if r["name"] not in exact), key=severity, default=None)
    if near:
        words += f"The smallest margin has {near['name']}: {margin(near)} ({near.get('where') or 'no place given'}). "
    for rung in rungs:
        if rung.get("conclusive") is False:
            words += f"{rung['name']} is open ({rung.get('where') or 'no place given'}). "
        elif not rung.get("agrees"):
            words += f"{rung['name']} fails: {margin(rung)} ({rung.get('where') or 'no place given'}). "
    return words + (f"Not run: {', '.join(s['name'] for s in skipped)}." if skipped else "")


def checks_words(rung: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> str:
    """What the figure of a rung's checks shows; `checks` has the worst first."""
    failed = [c for c in checks if not c.get("agrees")]
    shown = min(len(checks), plots.TENSORS)
    words = f"{rung['name']}, the {shown} of {number(len(checks))} checks nearest to or furthest above their bounds. "
    for c in failed[:1]:
        words += f"Above the bound: {number(len(failed))}; the worst is {c.get('where')}, {margin(c)}. "
    if not failed:
        worst = checks[0]
        words += f"All are within; the smallest margin has {worst.get('where')}: {margin(worst)}. "
    return words + "Bar: the check's own bound."


def curve_words(precision: str, curve: Mapping[str, Any], sides: Mapping[str, str]) -> str:
    """What the figure of two losses shows: where they go, how far they are apart, and what is not judged."""
    steps, difference, bound = (floats(curve.get(k)) for k in ("steps", "difference", "bound"))
    losses = {label: floats(curve.get(side)) for side, label in sides.items()}
    words = f"{precision}, steps {number(steps[0])} to {number(steps[-1])}: the loss goes "
    words += " and ".join(f"from {sig(v[0], 4)} to {sig(v[-1], 4)} in {label}" for label, v in losses.items() if v.size)
    length = min(steps.size, difference.size, bound.size)
    steps, difference, bound = steps[:length], difference[:length], bound[:length]
    judged, finite = steps < horizon(curve), np.isfinite(difference)
    where = np.flatnonzero(judged & finite)
    above = difference[where] > bound[where]
    if where.size:
        worst = where[np.argmax(difference[where])]
        words += (f". The losses differ by at most {sig(difference[worst])}, at step {number(steps[worst])}, where the"
                  f" bound is {sig(bound[worst])}; {_of(difference[where] == 0)} are equal to the last bit")
    if above.any():
        words += f". Above the bound: {_of(above)}, first step {number(steps[where][above][0])}."
    else:
        words += ". None is above the bound." if where.size else "."
    if not finite.all():
        words += f" Not finite: {_of(~finite)}."
    if length > plots.KEPT:
        words += f" The figure shows the step with the largest difference of every {number(length / plots.KEPT)}."
    if judged.all():
        return words + " No twin parted from its original within the run."
    beyond = difference[~judged & finite]
    words += f" The horizon is step {number(curve['horizon'])}; later steps are shown, not judged"
    return words + (f" (they differ by at most {sig(beyond.max())})." if beyond.size else ".")


def tensor_words(tensors: Sequence[Mapping[str, Any]]) -> str:
    """Which of the worst tensors are above their bounds."""
    worst, above = tensors[0], sum(as_float(t.get("ratio")) > 1 for t in tensors)
    words = (f"The worst of {number(len(tensors))} is {worst.get('tensor')} ({worst.get('kind')}) at step"
             f" {number(worst.get('step'))}: {sig(worst.get('difference'))}, margin {tensor_margin(worst)}. ")
    return words + (f"Above the bound: {number(above)}." if above else "None is above its bound.")


def own_words(verdict: Mapping[str, Any], sides: Mapping[str, str]) -> str:
    """How far each side's working precision is from its own float64: the further one rounds more."""
    own = verdict["own_float64"]
    parts = [f"{label} {sig(own[side].get('worst'))} (`{own[side].get('tensor')}`)" for side, label in sides.items()
             if side in own]
    return (f"The first step in {verdict.get('precision')} against the same side's float64, at the tensor furthest off:"
            f" {', '.join(parts)}.")


def mesh_words(meshes: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """How many meshes train as one device does, in which precision, and which of them is furthest off."""
    trained = [row for row in rows if row.get("agrees") is not None]
    failed = [row for row in trained if not row["agrees"]]
    words = (f"{len(trained) - len(failed)} of {len(trained)} meshes train as one device of the same backend does, "
             f"over {number(meshes.get('steps'))} steps in {meshes.get('precision')}"
             f"{', where rounding turns no ReLU on or off' * bool(meshes.get('jumps'))}. ")
    judged = [row for row in failed or trained if row.get("loss_bound") is not None]
    if not judged:
        return words
    worst = max(judged, key=lambda row: max(_share(row, "loss"), _share(row, "state")))
    what = max(("loss", "state"), key=lambda what: _share(worst, what))
    return words + (f"{'Worst' if failed else 'Nearest to its bound'} is {worst['backend']} on {worst['mesh']}: its "
                    f"{what} is off by {sig(worst.get(f'{what}_worst'))} against a bound of "
                    f"{sig(worst.get(f'{what}_bound'))}.")


def mask_words(meshes: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether rows differ in weight: where they do not, a mean of the devices' means passes unseen."""
    shared = [row for row in rows if row.get("weights_apart") is not None]
    if not shared:
        return ""
    most = max(shared, key=lambda row: as_float(row["weights_apart"]))
    if not as_float(most["weights_apart"]):
        return ("All shares of a batch weigh the same, as images do, so that a mean of the devices' means would not "
                "show here: a recipe of text shows it.")
    least = min(shared, key=lambda row: as_float(row["weights_apart"]))
    made = "The text is of short documents, made for this, whose ends mask a row here and another there. "
    return (f"{made if meshes.get('made') else ''}Rows differ in weight in {number(meshes.get('uneven_steps'))} of "
            f"{number(meshes.get('steps'))} steps: the shares of an update by up to "
            f"{sig(100 * as_float(most['weights_apart']))} % ({most['backend']} on {most['mesh']}; least "
            f"{sig(100 * as_float(least['weights_apart']))} %, {least['backend']} on {least['mesh']}), so that a mean "
            "of means would show.")


def mesh_bounds(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the bounds come from."""
    named = [f"of {what}, such as {row[key]}" for what, key in (("losses", "loss_bound_from"),
                                                                ("states", "state_bound_from"))
             for row in [row for row in rows if row.get(key)][:1]]
    return f"Bounds {'; '.join(named)}. Both are of one device and its twin, of the same backend." if named else ""


def _share(row, what):
    if f"{what}_bound" not in row:  # past the horizon
        return 0.0
    value = ratio(row.get(f"{what}_worst"), row[f"{what}_bound"])
    return math.inf if math.isnan(value) else value


def step_words(performance: Mapping[str, Any], sides: Mapping[str, str]) -> str:
    """What the histogram of step times shows, and how the sides compare."""
    words = []
    for side, measured in performance.items():
        times = floats(measured.get("step_ms"))
        text = f"{sides[side]}: median {sig(measured.get('step_ms_median'), 3)} ms"
        if measured.get("step_ms_interval"):
            text += f" ({interval(measured['step_ms_interval'])})"
        if np.isfinite(times).any():
            what = "rounds" if measured.get("round_steps") else "steps"
            text += f", slowest of {number(times.size)} {what} {sig(np.nanmax(times), 3)} ms"
            text += f" a step, {number(measured['round_steps'])} steps a round" if measured.get("round_steps") else ""
        words.append(text)
    if ratio := paired(performance, sides, "step_ms"):
        first, second = sides.values()
        if holds(ratio):
            words.append(f"which of them takes longer these rounds do not tell: {first} {between(ratio)} times as long "
                         f"as {second}")
        else:
            words.append(f"a step of {first} takes {between(ratio)} times one of {second}")
    return "; ".join(words) + (". Line: median; bar: its interval; the last bin holds all that were slower. A round is "
                               "timed as a whole, and a ratio is of rounds that alternated."
                               if any(measured.get("round_steps") for measured in performance.values()) else
                               ". Line: median; bar: half of all; the last bin holds all slower steps.")


def paired(performance: Mapping[str, Any], sides: Mapping[str, str], key: str) -> tuple[float, float, float] | None:
    """(low, ratio, high) of the first side's rounds to the second's, where both were timed in the same rounds."""
    told = [performance.get(side) or {} for side in sides]
    if len(told) != 2 or not all(side.get("round_steps") for side in told):
        return None
    return ratio_interval(*(floats(side.get(key)).tolist() for side in told))


def between(ratio: tuple[float, float, float] | None) -> str:
    """A ratio with its interval."""
    return f"{sig(ratio[1], 3)} ({interval((ratio[0], ratio[2]))})" if ratio else ""


def time_words(performance: Mapping[str, Any], sides: Mapping[str, str]) -> str:
    """What the figure of the wall time shows: the parts of each side."""
    words = []
    for side, measured in performance.items():
        spent = {p: as_float(measured["seconds"][p]) for p in plots.parts(measured.get("seconds") or {})}
        spent = {p: s for p, s in spent.items() if math.isfinite(s)}
        total = sum(spent.values())
        if total > 0:
            shares = ", ".join(f"{p.replace('_', ' ')} {100 * s / total:.0f} %" for p, s in spent.items())
            words.append(f"{sides[side]} spent {sig(total, 3)} s: {shares}")
    return "; ".join(words) + "."


def made_words(made: Mapping[str, Any]) -> str:
    """When, where and with what a result was made."""
    parts = [str(made["date"]).replace("T", " ").replace("Z", " UTC")] if made.get("date") else []
    parts += [f"on {made['host']}"] if made.get("host") else []
    if made.get("version"):
        commit = f", commit {made['commit']}" if made.get("commit") else ""
        parts.append(f"by twinscale {made['version']}{commit}")
    versions = made.get("versions") or {}
    parts += [f"{name} {versions[key]}" for name, key in (("Python", "python"), ("TensorFlow", "tensorflow"),
                                                          ("Keras", "keras"), ("JAX", "jax"), ("Flax", "flax"))
              if versions.get(key)]
    return f"Made {', '.join(parts)}." if parts else ""


def asked_words(found: Mapping[str, Any]) -> str:
    """What a result was asked for with, where its command starts from the resolved recipe."""
    asked = found.get("arguments") or {}
    if not asked.get("recipe"):
        return ""
    changes = "".join(f" `{change}`" for change in asked.get("overrides") or [])
    return (f"The recipe was `{asked['recipe']}`{f' with{changes}' if changes else ''}; the command takes the resolved "
            "one, which lies beside this page.")


# ---- values in words

def number(value: Any) -> str:
    """An integer with its thousands, anything else at two digits."""
    if value is None:
        return "–"
    value = as_float(value)
    return f"{value:,.0f}" if value.is_integer() else sig(value)


def interval(value: Iterable[Any]) -> str:
    """Two ends as a person reads them."""
    return " – ".join(sig(v, 3) for v in value)


def severity(row: Any) -> float:
    """How much of its bound a check or rung uses; what is not a number is worst."""
    value = ratio(row.get("worst"), row.get("bound"))
    return math.inf if math.isnan(value) else value


def margin(row: Any) -> str:
    """How far what a check or rung observed is from its bound, as all that shows a margin says it: "8.6 ×" within,
    "2.9e14 × too far" above, "exact" with no difference at all, "not exact" where a bound of zero is missed."""
    return margin_of(ratio(row.get("worst"), row.get("bound")))


def tensor_margin(row: Mapping[str, Any]) -> str:
    """`margin` of a row of the worst tensors, which has its ratio alone."""
    return margin_of(as_float(row.get("ratio")) if row.get("bound") != 0 else ratio(row.get("difference"), 0))


def _of(mask):
    return f"{number(mask.sum())} of {number(mask.size)} steps"
