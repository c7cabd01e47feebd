"""The report of a compression: what each stage cost and what its files buy, in both backends or in one; a
self-contained HTML file and its Markdown twin, from the same figures and words."""

import math
from collections.abc import Sequence
from pathlib import Path

from twinscale.benchmarks.compression import plots, words
from twinscale.benchmarks.compression.words import backend_name, format_name, median_of, name_of, setting, share
from twinscale.benchmarks.numbers import as_float, sig, size
from twinscale.benchmarks.report.page import climbed, drawn, lead, ordered, reproduced, write
from twinscale.benchmarks.report.words import number
from twinscale.common.metrics import higher_is_better

FLOAT = "litert-float"  # the format that sizes and latencies are held against, of the dense model
MAIN = (1, 1)  # the setting that latencies are compared in, where it was measured: batch, threads


def write_compression(found: dict, out: Path) -> None:
    """Write report.html and report.md into `out` from what compression.json says; equal input gives equal bytes."""
    write("report", _view(ordered(found)), out, "compression")


def _view(found):
    """Everything both templates need: the compression, its derived tables, its figures and their summaries."""
    rows = [row | {key: row.get(key) or [] for key in ("files", "verified")} for row in found.get("rows") or []]
    metric = str(next((row["metric_name"] for row in rows if row.get("metric_name")), "loss"))
    lines = _lines(rows, metric)
    settings = sorted({key for line in lines for key in line["latency"]})
    main = MAIN if MAIN in settings else next(iter(settings), MAIN)
    shown = metric.replace("_", " ")
    tone, subject, answer = words.headline(found)
    backends = [*dict.fromkeys(row.get("backend") for row in rows)]
    rungs = [_rung(rung) for rung in found.get("rungs") or []]
    return {
        "v": found, "lead": lead(rungs),
        "tone": tone, "subject": subject, "answer": answer, "facts": words.facts(found, lines, shown, main),
        "metric": shown, "metric_title": shown[:1].upper() + shown[1:],
        "settings": [setting(key) for key in settings],
        "groups": _groups(lines, settings), "measured_on": _measured_on(lines),
        "parity": _parity(rows), "pareto": _pareto(lines, shown, metric, main), "latency": _latency(lines, main),
        "zeros": words.zeros(lines, main), "preserved": _preserved(rows),
        **climbed(rungs), "first_failed": _first_failed(found.get("rungs") or []),
        **reproduced("compression", found, {b: backend_name(b) for b in backends}),
        "terms": words.TERMS, "failures": words.FAILURES,
    }


# ---- one line for each backend, stage and file


def _lines(rows, metric):
    """The lines of the table, each with all that is said of its file; numbers that are not there are None."""
    lines = [_line(row, file, metric) for row in rows for file in _files(row)]
    for line in lines:
        line["dense"] = _dense(lines, line["backend"])
    for line in lines:
        dense = line["dense"] or {}
        same_rows = line["file"].get("rows") == dense.get("file", {}).get("rows")
        line["trained_change"] = _change(line["trained"], dense.get("trained"), line["stage"] == dense.get("stage"))
        line["measured_change"] = _change(line["measured"], dense.get("measured"), line is dense or not same_rows)
        for key, of in (("smaller", "bytes"), ("smaller_zipped", "zipped")):
            line[key] = dense[of] / line[of] if line[of] and dense.get(of) and line is not dense else None
    return lines


def _files(row):
    """A row's files; where none is listed, what the row itself says of the one that ships."""
    timed = [{"batch": 1, "threads": 1, "median_ms": row["latency_ms"]}] if row.get("latency_ms") is not None else []
    return row["files"] or [{"bytes": row.get("bytes"), "latency": timed}]


def _line(row, file, metric):
    latency = {(m["batch"], m["threads"]): (m.get("median_ms"), m.get("p95_ms"), m.get("rounds_ms") or [])
               for m in file.get("latency") or [] if {int} == {type(m.get("batch")), type(m.get("threads"))}}
    trained = row.get("metric")
    return {"file": file, "backend": row.get("backend"), "stage": str(row.get("stage")),
            "format": file.get("format"), "bytes": _positive(file.get("bytes")),
            "zipped": _positive(file.get("zipped_bytes")), "latency": latency, "reason": file.get("reason"),
            "kept": row.get("kept"), "parameters": row.get("parameters"),
            "trained": _finite((row.get("metrics") or {}).get(metric) if trained is None else trained),
            "measured": _measured(row.get("metrics") or {}, file.get("metrics") or {}, metric)}


def _dense(lines, backend):
    """The dense float file of a backend, or its first dense file."""
    dense = [line for line in lines if (line["backend"], line["stage"]) == (backend, "dense")]
    return next((line for line in dense if line["format"] == FLOAT), dense[0] if dense else None)


def _measured(trained, measured, metric):
    """The metric of a file. One that is a function of the loss alone follows from it: perplexity, and bits a byte,
    which are the loss times what the trainer's own figures show."""
    if metric in measured:
        return _finite(measured[metric])
    loss = _finite(measured.get("loss"))
    if loss is None:
        return None
    if metric == "perplexity":
        return math.exp(min(loss, 700))
    if metric == "bits_per_byte" and _finite(trained.get("loss")) and _finite(trained.get(metric)):
        return loss * trained[metric] / trained["loss"]
    return None


def _change(value, dense, none):
    return None if none or value is None or dense is None else value - dense


def _finite(value):
    value = as_float(value)
    return value if math.isfinite(value) else None


def _positive(value):
    value = _finite(value)
    return value if value and value > 0 else None


# ---- the table


def _groups(lines, settings):
    """[(stage, what it holds, lines)] for the table, the stages in their order."""
    groups = []
    for stage in dict.fromkeys(line["stage"] for line in lines):
        inside = [line for line in lines if line["stage"] == stage]
        held = " and ".join(dict.fromkeys(number(line["parameters"]) for line in inside if line["parameters"]))
        groups.append((stage, f"{held} parameters" if held else "", [_cells(line, settings) for line in inside]))
    return groups


def _cells(line, settings):
    """A line as text: pairs of what a cell says and what stands small under it."""
    kind = format_name(line["format"])
    return {"who": backend_name(line["backend"]), "kind": kind, "operators": _operators(line["file"]),
            "reason": line["reason"],
            "trained": (_or_dash(line["trained"], 4), _signed(line["trained_change"])),
            "cells": [
                (_or_dash(line["measured"], 4), _signed(line["measured_change"])),
                (size(line["bytes"]), _smaller(line["smaller"])),
                (size(line["zipped"]), _smaller(line["smaller_zipped"])),
                (share(line["kept"]), ""),
                *(_times(line["latency"].get(key)) for key in settings)]}


def _operators(file):
    """How many of a file's operators compute in 8 bits, where any does or should."""
    counts = file.get("operators") or {}
    if not counts.get("total") or not (counts.get("int8") or "int8" in str(file.get("format"))):
        return ""
    return f"{number(counts.get('int8') or 0)} of {number(counts['total'])} in 8 bits"


def _or_dash(value, digits=3):
    return "–" if _finite(value) is None else sig(value, digits)


def _signed(change):
    if change is None:
        return ""
    return ("+" if change > 0 else "") + sig(change)


def _smaller(ratio):
    return f"{sig(ratio, 3 if ratio >= 100 else 2)} ×" if ratio else ""


def _times(measured):
    median, p95, _ = measured or (None, None, [])
    return _or_dash(median), "" if _finite(p95) is None else f"p95 {sig(p95, 3)}"


def _measured_on(lines):
    """On how many held-out rows the files were measured, in words."""
    counts = sorted({line["file"]["rows"] for line in lines if line["file"].get("rows")})
    return f"Files were measured on {' or '.join(map(number, counts))} held-out rows." if counts else ""


def _parity(rows):
    """A line for each stage that both backends made, (stage, numbers, answer): masks, quanta, and the difference of the
    held-out loss with its interval, each a text and what stands small under it."""
    table = []
    for stage in dict.fromkeys(row.get("stage") for row in rows):
        inside = [row for row in rows if row.get("stage") == stage]
        masks, quanta, differing, test = (next((row[key] for row in inside if row.get(key) is not None), None)
                                          for key in ("mask_agreement", "quanta", "quanta_differing", "paired"))
        if {masks is None, not quanta, differing is None, not test} == {True}:
            continue
        quanta = words.quanta_words(quanta or {"differing": differing})
        table.append((str(stage), [(share(masks), ""), quanta, *_difference(test)],
                      words.paired_words(test) if test else ("–", "")))
    return table


def _difference(test):
    """The cells of a paired test: the mean difference, and its interval with level and number of batches."""
    if not test:
        return [("–", "")] * 2
    ends = [_finite(end) for end in test.get("interval") or [None]]
    mean, level = _finite(test.get("mean")), as_float(test.get("alpha"))
    interval = "–" if None in ends else " to ".join(sig(end, 3) for end in ends)
    of = f"{100 - 200 * level:g} %, " if math.isfinite(level) else ""
    return [("not finite" if mean is None else _signed(mean), ""),
            (interval, f"{of}{number(test.get('seeds'))} batches")]


# ---- the figures


def front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of the points (cost, gain) no other beats: none costs at most as much and gains at least as much, and is
    better in one of the two."""
    best, found = -math.inf, [False] * len(points)
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    for i in order:
        cost, gain = points[i]
        if gain > best:
            best = gain
            for j in order:
                found[j] |= points[j] == (cost, gain)
    return found


def _pareto(lines, shown, metric, main):
    """The figure of the metric over bytes; None where no file has both."""
    points = [{"backend": line["backend"], "name": name_of(line),
               "label": f"{line['stage']} {format_name(line['format'])}".strip(), "bytes": line["bytes"],
               "zipped": line["zipped"], "value": line["measured"], "hollow": "int8" not in str(line["format"]),
               "note": _times(line["latency"].get(main))[0].replace("–", "")}
              for line in lines if line["bytes"] and line["measured"] is not None]
    if not points:
        return None
    lower = higher_is_better((), metric) is False
    for key, of in (("front", "bytes"), ("zipped_front", "zipped")):
        has = [p for p in points if p[of]]
        for point, on in zip(has, front([(p[of], -p["value"] if lower else p["value"]) for p in has]), strict=True):
            point[key] = on
    points = [{"front": False, "zipped_front": False} | point for point in points]
    absent = [name_of(line) for line in lines if not line["bytes"] or line["measured"] is None]
    title = f"{shown}, {'lower' if lower else 'higher'} is better"
    return drawn("pareto", words.pareto_words(points, shown, lower, absent), plots.pareto, points, title)


def _latency(lines, main):
    """The figure of latencies in one setting; None where none was measured."""
    timed = [line for line in lines if math.isfinite(median_of(line, main))]
    if not timed:
        return None
    rows = {}
    for line in timed:
        rows.setdefault((line["stage"], format_name(line["format"])), []).append(line)
    return drawn("latency", words.latency_words(timed, main), plots.latencies, [{
        "label": " ".join(filter(None, key)),
        "note": " / ".join(dict.fromkeys(size(line["zipped"]) for line in inside if line["zipped"])),
        "points": [{"backend": line["backend"], "median": line["latency"][main][0], "p95": line["latency"][main][1],
                    "hollow": "int8" not in str(line["format"])} for line in inside]}
        for key, inside in rows.items()])


# ---- stages and rungs


def _preserved(rows):
    """What each stage kept of what the stages before had made: sentences, and the kernels that lost something."""
    told = [(row, *words.kept_words(row)) for row in rows if row["verified"]]
    return [{"good": good, "words": text,
             "lost": [{"name": v.get("name"), "what": words.lost_words(v),
                       "zeros": f"{share(v.get('zeros_before'))} → {share(v.get('zeros_after'))}",
                       "distinct": f"{number(v.get('values_before'))} → {number(v.get('values_after'))}"}
                      for v in row["verified"] if not v.get("kept")]} for row, good, text in told]


def _rung(rung):
    """A rung as the ladder shows it: its title once, and its answer open where it is."""
    again = str(rung.get("name", "")).endswith(f" {rung.get('title')}")
    opened = {"conclusive": False} if rung.get("open") and not rung.get("agrees") else {}
    return rung | opened | ({"title": ""} if again else {})


def _first_failed(rungs):
    """The first rung that does not hold, and what that usually means."""
    failed = next((rung for rung in rungs if not rung.get("agrees")), {})
    means = words.FAILURES.get(failed.get("title"))
    return {"name": failed.get("name"), "means": means} if means else None
