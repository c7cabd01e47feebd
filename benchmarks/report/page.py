"""The report of a verdict: a self-contained HTML file and its Markdown twin, from the same figures and words."""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from twinscale.benchmarks.numbers import as_float, sig
from twinscale.benchmarks.report import plots
from twinscale.benchmarks.report import task as task_report
from twinscale.benchmarks.report import words as report_words
from twinscale.benchmarks.report.plots import TITLES, drawn
from twinscale.benchmarks.report.values import (
    code,
    embedded,
    fence,
    markdown,
    pretty,
    prose_html,
    prose_markdown,
    rank,
    short,
    shown,
)
from twinscale.benchmarks.report.words import interval, margin, number, severity, tensor_margin
from twinscale.benchmarks.rung_table import RUNGS, is_placed, title_of
from twinscale.common.backends import BOTH
from twinscale.common.files.access import plain, write_text
from twinscale.common.metrics.words import is_count

if TYPE_CHECKING:
    pass

WORST_TENSORS, CHECKS = 24, 100  # rows, rows a rung
PRECISIONS = ("float64", "float32", "bfloat16")
METRICS = ("loss", "perplexity", "bits_per_byte", "accuracy")
CONTENTS = "<!--contents-->"  # where the list of a page's sections goes; what is shown of others is escaped
SECTION = re.compile(r'<section id="([^"]+)"[^>]*>\s*<h2>(.*?)</h2>', re.S)


def write_report(verdict: dict, out: Path) -> None:
    """Write report.html and report.md into `out`; equal verdicts give equal bytes.

    A verdict's "sides", {key: label}, name what was compared where it is not Keras and JAX; its curves, performance,
    metrics, versions and devices then have these keys. The first side is the one whose key sorts first.
    """
    write("report", _view(ordered(verdict)), out)


def draw(verdict: dict) -> None:
    """Draw a verdict's figures: a report of it that is written later finds those that still hold."""
    _view(ordered(verdict))


def write(name: str, view: dict[str, Any], out: Path, template: str = "") -> None:
    """Writes `name`.html and `name`.md into `out`; their templates are called alike, or `template`."""
    script = (Path(__file__).parent / "templates" / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()  # the one script that may run
    view = {"made": report_words.made_words(view["v"].get("made") or {})} | view
    for kind in ("html", "md"):
        text = _environment(kind).get_template(f"{template or name}.{kind}.j2").render(
            view, script=Markup(script), script_hash=Markup(digest))
        write_text(out / f"{name}.{kind}", text.replace(CONTENTS, _contents(kind, text), 1))


def _contents(kind, text):
    """Links to the sections of a page that is rendered already."""
    if kind == "html":
        links = "".join(f'<li><a href="#{name}">{title}</a></li>\n' for name, title in SECTION.findall(text))
        return f'<nav aria-label="Contents">\n<ul>\n{links}</ul>\n</nav>'
    titles = re.findall(r"^## (.*)", text, re.M)
    return "Contents: " + " · ".join(f"[{title}](#{heading(title)})" for title in titles)


def heading(title: str) -> str:
    """The name that a Markdown heading has as a link's target."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def ordered(value: Any) -> Any:
    """What the JSON of a value says, its keys in one order."""
    return json.loads(json.dumps(plain(value), sort_keys=True))


@functools.cache
def _environment(kind):
    html = kind == "html"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=html,
        undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        finalize=shown if html else markdown)
    filters = {"sig": sig, "number": number, "code": code, "fence": fence, "pretty": pretty,
               "prose": prose_html if html else prose_markdown}
    environment.filters |= {name: _or_dash(function) for name, function in filters.items()}
    return environment


def _or_dash(function):
    return lambda value, *args: "–" if isinstance(value, jinja2.Undefined) else function(value, *args)


# ---- what the templates show ----

def _view(verdict):
    """Everything both templates need: the verdict, its derived tables, its figures and their summaries."""
    sides = _sides(verdict)
    rungs, performance = verdict.get("rungs") or [], _by_side(verdict.get("performance"), sides)
    curves = sorted((verdict.get("curves") or {}).items(), key=lambda c: (rank(PRECISIONS, c[0]), c[0]))
    curves = [(precision, curve) for precision, curve in curves if curve and curve.get("steps")]
    timed = any(plots.positive(side.get("step_ms")).size for side in performance.values())
    spent = any(side.get("seconds") for side in performance.values())
    tensors = verdict.get("tensors") or []
    return {
        "v": verdict, "quotient": _quotient(sides),
        "who": _who(verdict),
        "facts": _facts(verdict), "lead": lead(rungs, verdict.get("cause")),
        **climbed(rungs, verdict.get("skipped") or []), "first_failed": _first_failed(rungs),
        "curves": [(precision, drawn(f"loss-{i}", report_words.curve_words(precision, curve, sides),
                                     plots.convergence, curve, sides))
                   for i, (precision, curve) in enumerate(curves)],
        "tensors": [t | {"above": not as_float(t.get("ratio")) <= 1, "margin": tensor_margin(t)}
                    for t in tensors[:WORST_TENSORS]],
        "meshes": _meshes(verdict.get("meshes") or {}, sides),
        "bisect": bool(rungs) and not (verdict.get("agrees") or _of_runs(verdict) or _all_beyond(rungs)),
        "tensors_words": report_words.tensor_words(tensors) if tensors else None,
        "own_words": report_words.own_words(verdict, sides) if verdict.get("own_float64") else None,
        "inside": _inside(verdict.get("inside") or {}),
        "swap": _swap(verdict.get("swap") or {}),
        "mfu": " and ".join(sorted({s["mfu_convention"] for s in performance.values() if s.get("mfu_convention")})),
        "performance_rows": _performance_rows(performance, sides),
        "step_times": drawn("steps", report_words.step_words(performance, sides), plots.step_times, performance,
                            sides) if timed else None,
        "time": drawn("time", report_words.time_words(performance, sides), plots.where_time_goes, performance,
                      sides) if spent else None,
        "held_out": held_out(_by_side(verdict.get("held_out"), sides), sides,
                             task_report.in_tables(verdict.get("task") or {})),
        "task": task_report.view(verdict.get("task") or {}, sides),
        **reproduced("verdict", verdict, sides),
        "terms": report_words.TERMS, "null": report_words.NULL,
        "failures": {name: kind.failing for name, kind in RUNGS.items()},
    }


def climbed(rungs: Sequence[Mapping[str, Any]], skipped: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """What ladder.html.j2 and ladder.md.j2 show of the rungs."""
    words = report_words.ladder_words(rungs, skipped) if rungs else ""
    return {"rungs": [_rung(i, rung) for i, rung in enumerate(rungs)],
            "not_run": [{"title": title_of(rung.get("name"))} | rung for rung in skipped],
            "ladder": drawn("ladder", words, plots.ladder, rungs) if rungs else None}


def lead(rungs: Sequence[Mapping[str, Any]], cause: Mapping[str, Any] | None = None) -> dict[str, str] | None:
    """What stands first on a page where something failed: the cause if it was found, else the first rung that fails,
    and the place of either in the page."""
    if cause:
        placed = cause.get("operation", True) is not None
        return {"what": "First cause" if placed else "Where they part", "sentence": str(cause.get("sentence")),
                "place": "cause", "heading": "divergence", "go": "More under Divergence"}
    for number_, rung in enumerate(rungs, 1):
        if not rung.get("agrees") and rung.get("conclusive") is not False and not rung.get("open"):
            name = f"{rung.get('name')} {rung.get('title') or ''}".strip()
            return {"what": "The first rung that fails", "place": f"rung-{number_}", "heading": "the-ladder",
                    "go": "Its place in the ladder",
                    "sentence": f"{name}: {margin(rung)}, at {rung.get('where') or 'no place given'}"}
    return None


def reproduced(result: str, found: Mapping[str, Any], sides: Mapping[str, str]) -> dict[str, Any]:
    """What reproduce.html.j2 and reproduce.md.j2 show of `found`, the content of RESULT.json.

    Its versions and devices have the keys of `sides`, {key: label}.
    """
    small, kept = embedded(found)
    return {"result": result, "sides": [*sides.values()], "asked": report_words.asked_words(found),
            "versions": _versions(_by_side(found.get("versions"), sides), sides),
            "devices": [", ".join((found.get("devices") or {}).get(side) or ["–"]) for side in sides]
            if found.get("devices") else None,
            "data": short(found["data"], 20) if found.get("data") else None,
            "embedded": htmlsafe_json_dumps(small, sort_keys=True, allow_nan=False), "kept": kept}


def _sides(verdict):
    """{key: label} of what was compared, the first side first."""
    named = verdict.get("sides") or {key: TITLES[key] for key in BOTH}
    return {key: named[key] for key in sorted(named, key=lambda key: (rank([*BOTH], key), key))}


def _of_runs(verdict):
    """Whether two runs were compared, which have keys of their own, and not two programs side by side."""
    return bool(verdict.get("sides")) and not verdict["sides"].keys() <= set(BOTH)


def _who(verdict):
    """What a verdict's sides are."""
    if (verdict.get("arguments") or {}).get("columns"):
        return "columns"
    return "runs" if _of_runs(verdict) else "programs" if verdict.get("sides") else "backends"


def _by_side(values, sides):
    return {side: values[side] for side in sides if (values or {}).get(side)}


def _quotient(sides):
    """The name of a column of first over second; long labels have no place there."""
    short = sum(map(len, sides.values())) < 24
    return " / ".join(sides.values()) if short else "first / second"


def _facts(verdict):
    """The verdict in numbers: name and value."""
    rungs, skipped = verdict.get("rungs") or [], verdict.get("skipped") or []
    horizon = verdict.get("horizon")
    named = zip(("first", "second"), _sides(verdict).values(), strict=True) if verdict.get("sides") else ()
    facts = [
        *named,
        ("recipe", (verdict.get("recipe") or {}).get("name", "–")),
        ("precision", verdict.get("precision", "–")),
        ("steps", number(verdict.get("steps"))),
        ("rungs within bound", f"{sum(bool(r.get('agrees')) for r in rungs)} of {len(rungs)}"
         + (f", {len(skipped)} not run" if skipped else "")),
        ("horizon", "not reached" if horizon is None else f"step {number(horizon)}"),
    ]
    return facts + ([("planted error", verdict["plant"])] if verdict.get("plant") else [])


def _rung(index, rung):
    checks = sorted(rung.get("checks") or [], key=lambda c: (bool(c.get("agrees")), -severity(c)))
    figure = None
    if len(checks) > 1 and any(as_float(c.get("bound")) > 0 for c in checks):
        figure = drawn(f"checks-{index}", report_words.checks_words(rung, checks), plots.checks, checks)
    return rung | {"margin": margin(rung), "checks": [c | {"margin": margin(c)} for c in checks[:CHECKS]],
                   "more": max(0, len(checks) - CHECKS), "count": len(checks), "figure": figure}


def _first_failed(rungs):
    """The first rung that does not hold, and what that usually means; of those below it this may not be true."""
    name = next((rung["name"] for rung in rungs if not rung.get("agrees")), None)
    return {"name": name, "means": RUNGS[name].failing} if name in RUNGS else None


def _all_beyond(rungs):
    """Whether rungs fail, and none that something of the first steps may explain."""
    failing = [rung.get("name") for rung in rungs if not rung.get("agrees")]
    return bool(failing) and not any(is_placed(name) for name in failing)


def _meshes(meshes, sides):
    """The meshes that were trained as rows of cells, those that were not with their reasons, and both in words."""
    rows = [row | {"backend": sides.get(row.get("backend"), row.get("backend"))} for row in meshes.get("rows") or []]
    return {"rows": [row for row in rows if row.get("agrees") is not None],
            "skipped": [row for row in rows if row.get("agrees") is None],
            "words": report_words.mesh_words(meshes, rows), "masks": report_words.mask_words(meshes, rows),
            "bounds": report_words.mesh_bounds(rows)}


def _inside(inside):
    """The precision in which two programs part first, or the first one, and its Inside; None where nobody looked."""
    ordered = sorted(inside, key=lambda precision: rank(PRECISIONS, precision))
    precision = next((one for one in ordered if inside[one].get("place")), next(iter(ordered), None))
    found = precision and inside[precision]
    return precision and {"precision": precision, "found": found, "rows": [
        row | {"mark": _mark(row, found)} for row in found.get("modules") or []]}


def _mark(row, found):
    """What stands beside two modules that part, first or when the second is fed with the first one's values."""
    far = max((as_float(row[key]) for key in ("inputs", "outputs") if row.get(key) is not None), default=0.0)
    return "first parting" if row.get("parts") else "parts by itself" if far > as_float(found.get("bound")) else ""


def _swap(swap):
    """The swap table: programs by runtimes, each cell with a mark where its gradient is above the bound."""
    cells = [cell | {"above": not as_float(cell.get("gradient")) <= as_float(swap.get("bound"))}
             for cell in swap.get("cells") or []]
    programs, runtimes = (list(dict.fromkeys(cell[key] for cell in cells)) for key in ("program", "runtime"))
    at = {(cell["program"], cell["runtime"]): cell for cell in cells}
    return {"cells": cells, "runtimes": runtimes,
            "rows": [(program, [at.get((program, runtime)) for runtime in runtimes]) for program in programs]}


def _performance_rows(performance, sides):
    """Rows of name, one text per side, and the ratio first / second, of what was measured in the same rounds alone:
    any other has no interval, and says as much of the machine's day."""
    if not performance:
        return []
    units = sorted({str(side.get("unit") or "examples/s") for side in performance.values()})
    rows = [("compile, s (less of what was compiled before)", "compile_seconds"), ("step median, ms", "step_ms_median"),
            ("its interval, ms", "step_ms_interval"),
            (f"throughput, {' or '.join(units)}", "throughput"), ("MFU", "mfu"),
            ("goodput of the run's whole time", "goodput_percent"), ("bare step median, ms", "bare_step_ms_median"),
            ("loop overhead", "loop_overhead_percent"),
            ("data faster than model", "data_ratio")]
    ratios = {key: report_words.paired(performance, sides, of) for key, of in (
        ("step_ms_median", "step_ms"), ("throughput", "step_ms"), ("bare_step_ms_median", "bare_step_ms"))}
    if ratios["throughput"]:
        ratios["throughput"] = tuple(1 / ratio for ratio in ratios["throughput"][::-1])
    table = []
    for name, key in rows:
        values = [performance.get(side, {}).get(key) for side in sides]
        cells = [_performance_cell(key, value, performance.get(side, {}).get(f"{key}_interval"))
                 for side, value in zip(sides, values, strict=True)]
        if set(cells) != {"–"}:
            table.append((name, *cells, report_words.between(ratios.get(key))))
    return table


def _performance_cell(key, value, around=None):
    if value is None:
        return "–"
    if key in ("loop_overhead_percent", "data_ratio") and around:
        unit = " ×" if key == "data_ratio" else " %"
        nothing = key == "loop_overhead_percent" and not as_float(around[0]) > 0
        return f"{'none measurable' if nothing else sig(value) + unit} ({interval(around)}{unit})"
    if key == "step_ms_interval":
        return interval(value)
    if key == "mfu":
        return "refused: above 100 %" if as_float(value) > 1 else f"{sig(100 * as_float(value))} %"
    if key.endswith("_percent"):
        return f"{sig(value)} %"
    return sig(value, 3) + (" ×" if key == "data_ratio" else "")


def held_out(metrics: Mapping[str, Any], sides: Mapping[str, str], told: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Rows of metric, the value of each side and, where there are two, the absolute difference; without those that
    begin as what is `told` elsewhere."""
    values = [metrics.get(side) or {} for side in sides]
    table = []
    names = (name for name in set().union(*values) if not name.startswith(told))
    for name in sorted(names, key=lambda m: (rank(METRICS, m), m)):
        cells = [_measured(name, v[name]) if name in v else "–" for v in values]
        if len(sides) == 2:
            both = all(name in v for v in values)
            apart = abs(as_float(values[0][name]) - as_float(values[1][name])) if both else 0.0
            cells.append(_measured(name, apart, 2) if both else "–")
        table.append((name.replace("_", " "), *cells))
    return table


def _measured(name, value, digits=7):
    """A metric's value: the whole number that a count is, if it is one."""
    return f"{value:,.0f}" if is_count(name) and as_float(value).is_integer() else sig(value, digits)


def _versions(versions, sides):
    values = [versions.get(side) or {} for side in sides]
    return [(name, *(v.get(name, "–") for v in values)) for name in sorted(set().union(*values))]
