"""The audit's page: what was planted, which rungs saw it, and how faintly."""

import math
from pathlib import Path

from twinscale.benchmarks.numbers import as_float, sig
from twinscale.benchmarks.report import words as report_words
from twinscale.benchmarks.report.page import ordered, reproduced, write
from twinscale.benchmarks.report.plots import TITLES
from twinscale.benchmarks.report.words import number
from twinscale.benchmarks.rung_table import RUNGS

EXACT = 1e200  # ratios above come of a bound of zero


def write_audit(found: dict, out: Path) -> None:
    """Write audit.html and audit.md into `out` from what audit.json says; equal audits give equal bytes."""
    write("audit", _audit_view(ordered(found)), out)


def _audit_view(found):
    """The audit's rows, those of errors by their class of operation, with a cell for each rung."""
    rows = found.get("rows") or []
    audited = tuple(name for name, kind in RUNGS.items() if kind.audited)
    names = audited + tuple(sorted({rung for row in rows for rung in row.get("failed") or {}} - {*audited}))
    shown = [row | {"backend": TITLES.get(row.get("backend"), row.get("backend")),
                    "cells": [_audit_cell(row.get("failed") or {}, rung) for rung in names]} for row in rows]
    errors = [row for row in shown if row.get("operation")]
    groups = [(operation, [row for row in errors if row["operation"] == operation])
              for operation in sorted({row["operation"] for row in errors})]
    harmless = [row for row in shown if not row.get("operation")]
    counts = {key: found.get(key) or 0 for key in ("mutants", "caught", "placed", "neutral", "flagged")}
    versions = {"here": (found.get("made") or {}).get("versions")}
    sound = counts["caught"] == counts["placed"] == counts["mutants"] and not counts["flagged"]
    return {
        "v": found, "sound": sound, "names": names, "groups": groups, "harmless": harmless,
        "terms": report_words.AUDIT_TERMS, "tables": [table for table in _audit_tables(found) if table[-1]],
        "sentence": "Of {mutants} planted errors {caught} were caught and {placed} placed; of {neutral} harmless "
                    "changes {flagged} were flagged.".format(**counts),
        "advice": None if sound else RUNGS["P8"].failing,
        "facts": [("planted errors", number(counts["mutants"])), ("caught", number(counts["caught"])),
                  ("placed", number(counts["placed"])), ("harmless changes", number(counts["neutral"])),
                  ("flagged", number(counts["flagged"])), ("smallest signal", _signal(found.get("smallest_signal"))),
                  ("median signal", _signal(found.get("median_signal"))),
                  ("took", f"{number(round(as_float(found['seconds'])))} s" if found.get("seconds") else "–")],
        **reproduced("audit", found | {"versions": versions}, {"here": "version"}),
    }


def _audit_tables(found):
    """[(section, title, what it says, columns, rows)] of what an audit has found in all."""
    seen = [(name, rung["caught"], _signal(rung["smallest"]), rung["faintest"], ", ".join(rung["alone"]) or "–")
            for name, rung in sorted((found.get("rungs") or {}).items())]
    counted = [(kind, name, of["mutants"], of["caught"], of["placed"])
               for kind, groups in (found.get("by") or {}).items() for name, of in groups.items()]
    left = [(row["name"], TITLES.get(row["backend"], row["backend"]), ", ".join(row["lacks"]))
            for row in found.get("inapplicable") or []]
    return [("rungs", "What each rung has seen", "The faintest of what it caught, and what no other rung has seen.",
             ("rung", "caught", "smallest signal", "of", "it alone"), seen),
            ("counts", "Planted errors by precision and phase", "Of the recipe, and of the training.",
             ("by", "of", "planted", "caught", "placed"), counted),
            ("left", "What does not apply", "Changes that do not show in this recipe, and what it lacks for them.",
             ("change", "in", "lacks"), left)]


def _audit_cell(failed, rung):
    """Text and depth of colour, in percent, of what a rung observed over its bound; nothing where it held."""
    if rung not in failed:
        return None
    value = as_float(failed[rung])  # null: not finite
    decades = 12.0 if math.isnan(value) else math.log10(min(max(value, 1.0), 1e12))
    return "∞" if math.isnan(value) else _signal(value), round(12 + 3 * decades)


def _signal(value):
    """An observation over its bound: a power of ten, "≠" where the bound was zero."""
    if value is None:
        return "–"
    value = as_float(value)
    return "≠" if value >= EXACT else sig(value) if value < 10 else f"1e{math.floor(math.log10(value))}"
