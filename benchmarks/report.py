"""The report of a verdict: one self-contained HTML file and its Markdown twin, from the same figures and words."""

import json
import math
import re
from pathlib import Path

import jinja2
import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from benchmarks import plots
from benchmarks.plots import BACKENDS, as_float, floats, ratio, sig
from common.run import plain, write_text

WORST_TENSORS, CHECKS, PAGE = 24, 100, 900_000  # rows, rows a rung, bytes of embedded JSON
PRECISIONS = ("float64", "float32", "bfloat16")
METRICS = ("loss", "perplexity", "bits_per_byte", "accuracy")


def write_report(verdict: dict, out: Path) -> None:
    """Write report.html and report.md into `out`; equal verdicts give equal bytes."""
    view = _view(json.loads(json.dumps(plain(verdict), sort_keys=True)))  # what verdict.json says, keys in one order
    for name in ("report.html", "report.md"):
        write_text(Path(out) / name, _environment(name).get_template(f"{name}.j2").render(view))


def _environment(name):
    html = name.endswith(".html")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=html,
        undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        finalize=_shown if html else _markdown)
    filters = {"sig": sig, "number": _number, "code": _code, "fence": _fence, "pretty": _pretty}
    environment.globals |= {"BACKENDS": BACKENDS}
    environment.filters |= {name: _or_dash(function) for name, function in filters.items()}
    return environment


def _or_dash(function):
    return lambda value, *args: "–" if isinstance(value, jinja2.Undefined) else function(value, *args)


# ---- what the templates show ----


def _view(verdict):
    """Everything both templates need: the verdict, its derived tables, its figures and their summaries."""
    rungs, performance = verdict.get("rungs") or [], _performance(verdict)
    curves = sorted((verdict.get("curves") or {}).items(), key=lambda c: (_rank(PRECISIONS, c[0]), c[0]))
    curves = [(precision, curve) for precision, curve in curves if curve and curve.get("steps")]
    timed = any(plots.positive(side.get("step_ms")).size for side in performance.values())
    spent = any(side.get("seconds") for side in performance.values())
    tensors = verdict.get("tensors") or []
    embedded, kept = _embedded(verdict)
    return {
        "v": verdict,
        "facts": _facts(verdict),
        "rungs": [_rung(rung) for rung in rungs],
        "ladder": _figure("ladder", _ladder_words(rungs, verdict.get("skipped") or []), plots.ladder, rungs)
        if rungs else None,
        "curves": [(precision, _figure(f"loss-{i}", _curve_words(precision, curve), plots.convergence, curve))
                   for i, (precision, curve) in enumerate(curves)],
        "tensors": tensors[:WORST_TENSORS], "tensors_words": _tensor_words(tensors),
        "mfu": " and ".join(sorted({s["mfu_convention"] for s in performance.values() if s.get("mfu_convention")})),
        "performance": performance, "performance_rows": _performance_rows(performance),
        "step_times": _figure("steps", _step_words(performance), plots.step_times, performance) if timed else None,
        "time": _figure("time", _time_words(performance), plots.where_time_goes, performance) if spent else None,
        "held_out": _held_out(verdict.get("held_out") or {}),
        "versions": _versions(verdict.get("versions") or {}),
        "data": _short(verdict["data"], 20) if verdict.get("data") else None,
        "embedded": htmlsafe_json_dumps(embedded, sort_keys=True, allow_nan=False), "kept": kept,
    }


def _figure(name, words, draw, *args):
    wide, narrow = plots.svg(name, draw, *args)
    return {"words": words, "wide": Markup(wide), "narrow": Markup(narrow)}


def _facts(verdict):
    """The verdict in numbers: name and value."""
    rungs, skipped = verdict.get("rungs") or [], verdict.get("skipped") or []
    horizon = verdict.get("horizon")
    facts = [
        ("recipe", (verdict.get("recipe") or {}).get("name", "–")),
        ("precision", verdict.get("precision", "–")),
        ("steps", _number(verdict.get("steps"))),
        ("rungs within bound", f"{sum(bool(r.get('agrees')) for r in rungs)} of {len(rungs)}"
         + (f", {len(skipped)} not run" if skipped else "")),
        ("horizon", "not reached" if horizon is None else f"step {_number(horizon)}"),
    ]
    return facts + ([("planted error", verdict["plant"])] if verdict.get("plant") else [])


def _rung(rung):
    checks = sorted(rung.get("checks") or [], key=lambda c: (bool(c.get("agrees")), -_rank_ratio(c)))
    return rung | {"checks": checks[:CHECKS], "more": max(0, len(checks) - CHECKS), "count": len(checks)}


def _performance(verdict):
    sides = verdict.get("performance") or {}
    return {backend: sides[backend] for backend in BACKENDS if sides.get(backend)}


def _performance_rows(performance):
    """Rows of name, one text per backend, and the ratio keras / jax where there is one."""
    if not performance:
        return []
    units = sorted({str(side.get("unit") or "examples/s") for side in performance.values()})
    rows = [("compile, s", "compile_seconds"), ("step median, ms", "step_ms_median"),
            ("interval of the median, ms", "step_ms_interval"),
            (f"throughput, {' or '.join(units)}", "throughput"), ("MFU", "mfu"),
            ("bare step median, ms", "bare_step_ms_median"), ("loop overhead", "loop_overhead_percent"),
            ("data faster than model", "data_ratio")]
    compared = {"compile_seconds", "step_ms_median", "throughput", "bare_step_ms_median"}
    table = []
    for name, key in rows:
        cells = [_performance_cell(key, performance.get(b, {}).get(key)) for b in BACKENDS]
        both = [as_float(performance.get(b, {}).get(key)) for b in BACKENDS] if key in compared else [math.nan]
        quotient = sig(both[0] / both[1], 3) if np.isfinite(both).all() and both[1] else ""
        if set(cells) != {"–"}:
            table.append((name, *cells, quotient))
    return table


def _performance_cell(key, value):
    if value is None:
        return "–"
    if key == "step_ms_interval":
        return " – ".join(sig(v, 3) for v in value)
    if key == "mfu":
        return "refused: above 100 %" if as_float(value) > 1 else f"{sig(100 * as_float(value))} %"
    if key == "loop_overhead_percent":
        return f"{sig(value)} %"
    return sig(value, 3) + (" ×" if key == "data_ratio" else "")


def _held_out(sides):
    """Rows of metric, keras, jax, absolute difference."""
    keras, jax = sides.get("keras") or {}, sides.get("jax") or {}
    names = sorted({*keras, *jax}, key=lambda m: (_rank(METRICS, m), m))
    return [(m.replace("_", " "), *(sig(s[m], 7) if m in s else "–" for s in (keras, jax)),
             sig(abs(as_float(keras[m]) - as_float(jax[m]))) if m in keras and m in jax else "–") for m in names]


def _versions(sides):
    keras, jax = sides.get("keras") or {}, sides.get("jax") or {}
    return [(name, keras.get(name, "–"), jax.get(name, "–")) for name in sorted({*keras, *jax})]


# ---- the figures in words ----


def _ladder_words(rungs, skipped):
    within = [r for r in rungs if r.get("agrees")]
    words = f"{len(within)} of {len(rungs)} rungs are within their bound"
    exact = [r["name"] for r in within if ratio(r.get("worst"), r.get("bound")) == 0]
    words += f"; exact: {', '.join(exact)}. " if exact else ". "
    near = max((r for r in within if r["name"] not in exact), key=_rank_ratio, default=None)
    if near:
        words += (f"Closest to its bound is {near['name']}, at {sig(ratio(near.get('worst'), near.get('bound')))} of it"
                  f" ({near.get('where') or 'no place given'}). ")
    for rung in rungs:
        if rung.get("conclusive") is False:
            words += f"{rung['name']} is open ({rung.get('where') or 'no place given'}). "
        elif not rung.get("agrees"):
            times = ratio(rung.get("worst"), rung.get("bound"))
            how = f"{sig(times)} times its bound" if math.isfinite(times) else sig(rung.get("worst"))
            words += f"{rung['name']} fails: {how} ({rung.get('where') or 'no place given'}). "
    return words + (f"Not run: {', '.join(s['name'] for s in skipped)}." if skipped else "")


def _curve_words(precision, curve):
    steps, difference, bound = (floats(curve.get(k)) for k in ("steps", "difference", "bound"))
    losses = {label: floats(curve.get(b)) for b, label in BACKENDS.items()}
    words = f"{precision}, steps {_number(steps[0])} to {_number(steps[-1])}: the loss goes "
    words += " and ".join(f"from {sig(v[0], 4)} to {sig(v[-1], 4)} in {label}" for label, v in losses.items() if v.size)
    length = min(steps.size, difference.size, bound.size)
    steps, difference, bound = steps[:length], difference[:length], bound[:length]
    judged, finite = steps < plots.horizon(curve), np.isfinite(difference)
    where = np.flatnonzero(judged & finite)
    above = difference[where] > bound[where]
    if where.size:
        worst = where[np.argmax(difference[where])]
        words += (f". The losses differ by at most {sig(difference[worst])}, at step {_number(steps[worst])}, where the"
                  f" bound is {sig(bound[worst])}; {_of(difference[where] == 0)} are equal to the last bit")
    if above.any():
        words += f". Above the bound: {_of(above)}, first step {_number(steps[where][above][0])}."
    else:
        words += ". None is above the bound." if where.size else "."
    if not finite.all():
        words += f" Not finite: {_of(~finite)}."
    if length > plots.KEPT:
        words += f" The figure shows the step with the largest difference of every {_number(length / plots.KEPT)}."
    if judged.all():
        return words + " No twin parted from its original within the run."
    beyond = difference[~judged & finite]
    words += f" The horizon is step {_number(curve['horizon'])}; later steps are shown, not judged"
    return words + (f" (they differ by at most {sig(beyond.max())})." if beyond.size else ".")


def _of(mask):
    return f"{_number(mask.sum())} of {_number(mask.size)} steps"


def _tensor_words(tensors):
    if not tensors:
        return "No tensor was compared along the run."
    worst, above = tensors[0], sum(as_float(t.get("ratio")) > 1 for t in tensors)
    words = (f"The worst of {_number(len(tensors))} is {worst.get('tensor')} ({worst.get('kind')}) at step"
             f" {_number(worst.get('step'))}: {sig(worst.get('difference'))}, {sig(worst.get('ratio'))} of its bound. ")
    return words + (f"Above the bound: {_number(above)}." if above else "None is above its bound.")


def _step_words(performance):
    words = []
    for backend, side in performance.items():
        times = floats(side.get("step_ms"))
        text = f"{BACKENDS[backend]}: median {sig(side.get('step_ms_median'), 3)} ms"
        if side.get("step_ms_interval"):
            text += f" ({_performance_cell('step_ms_interval', side['step_ms_interval'])})"
        if np.isfinite(times).any():
            text += f", slowest of {_number(times.size)} steps {sig(np.nanmax(times), 3)} ms"
        words.append(text)
    medians = [as_float(performance.get(b, {}).get("step_ms_median")) for b in BACKENDS]
    if np.isfinite(medians).all() and min(medians) > 0:
        words.append(f"a Keras step takes {sig(medians[0] / medians[1], 3)} times a JAX step")
    return "; ".join(words) + ". Line: median; bar: its interval; the last bin holds all slower steps."


def _time_words(performance):
    words = []
    for backend, side in performance.items():
        spent = {p: as_float(side["seconds"][p]) for p in plots.parts(side["seconds"])} if side.get("seconds") else {}
        spent = {p: s for p, s in spent.items() if math.isfinite(s)}
        total = sum(spent.values())
        if total > 0:
            shares = ", ".join(f"{p.replace('_', ' ')} {100 * s / total:.0f} %" for p, s in spent.items())
            words.append(f"{BACKENDS[backend]} spent {sig(total, 3)} s: {shares}")
    return "; ".join(words) + "."


# ---- values ----


def _embedded(verdict):
    """The verdict to embed, its long lists shortened until it fits the page, and the entries a list keeps (or None)."""
    kept, small = None, verdict
    while len(json.dumps(small)) > PAGE and (kept or 2048) > 8:
        kept = (kept or 2048) // 2
        small = _short(verdict, kept)
    return small, kept


def _short(value, limit):
    """Lists of numbers thinned evenly, other lists cut, so that each has at most `limit` entries."""
    if isinstance(value, dict):
        return {key: _short(v, limit) for key, v in value.items()}
    if not isinstance(value, list):
        return value
    numbers = all(isinstance(v, int | float | None) for v in value)
    return value[:: math.ceil(len(value) / limit) or 1] if numbers else [_short(v, limit) for v in value[:limit]]


def _number(value):
    if value is None:
        return "–"
    value = as_float(value)
    return f"{value:,.0f}" if value.is_integer() else sig(value)


def _rank(order, name):
    return order.index(name) if name in order else len(order)


def _rank_ratio(row):
    value = ratio(row.get("worst"), row.get("bound"))
    return math.inf if math.isnan(value) else value


def _shown(value):
    return "–" if value is None or isinstance(value, jinja2.Undefined) else value


def _pretty(value):
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def _markdown(value):
    """Markdown's autoescape: text on one line, with nothing that opens a tag, a link, emphasis or a table cell."""
    if isinstance(value, Markup):
        return value
    return re.sub(r"([\\`*<>\[\]|])", r"\\\1", " ".join(str(_shown(value)).split()))


def _code(text):
    """A Markdown code span, fit for a table cell."""
    text = " ".join(str(_shown(text)).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{ticks} {text} {ticks}" if "`" in text else f"`{text}`") if text else Markup("–")


def _fence(text, language=""):
    """A Markdown code block whose fence is longer than any inside."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", str(text))), default=0))
    return Markup(f"{ticks}{language}\n{str(text).rstrip()}\n{ticks}")
