"""What an audit found: counts, what each rung has seen, and the words for it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscale.benchmarks.numbers import sig


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts, by precision and by phase too; of each rung the smallest signal of what it caught, and which mutants
    it alone has seen; and the rows of mutants and of harmless changes."""
    mutants = [row for row in rows if row["operation"]]
    neutral = [row for row in rows if not row["operation"]]
    ended = [row for row in rows if row.get("error")]
    signals = [row["signal"] for row in mutants if row["caught"]]
    by = {kind: {name: counts([row for row in mutants if row.get(kind) == name])
                 for name in dict.fromkeys(row.get(kind) for row in mutants)} for kind in ("precision", "phase")}
    return {**counts(mutants), "neutral": len(neutral), "flagged": sum(row["caught"] for row in neutral),
            "failed": len(ended), "smallest_signal": min(signals, default=None),
            "median_signal": float(np.median(signals)) if signals else None, "by": by,
            "rungs": rungs_of(mutants), "rows": [*mutants, *neutral]}


def counts(mutants: Sequence[dict[str, Any]]) -> dict[str, int]:
    """{"mutants", "caught", "placed"} of rows."""
    return {"mutants": len(mutants), **{what: sum(row[what] for row in mutants) for what in ("caught", "placed")}}


def rungs_of(mutants: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{rung: {"caught" (how many it has), "smallest" (the faintest of their signals), "faintest" (which that is),
    "alone" (the names of those that no other rung has seen)}}."""
    found = {}
    for name in sorted({rung for row in mutants for rung in row["failed"]}):
        seen = [row for row in mutants if name in row["failed"]]
        faintest = min(seen, key=lambda row: row["failed"][name])
        found[name] = {"caught": len(seen), "smallest": faintest["failed"][name], "faintest": called(faintest),
                       "alone": [called(row) for row in seen if len(row["failed"]) == 1]}
    return found


def called(row: Mapping[str, Any]) -> str:
    """What a row is called where both backends have changes of one name."""
    return f"{row['name']} in {row['backend']}"


def lines(found: Mapping[str, Any]) -> list[str]:
    """The audit as a table, what each rung has seen, and the counts in a sentence."""
    width = max([28, *(len(row["name"]) for row in found["rows"])]) + 2
    table = [f"{'planted':<{width}}{'in':<7}{'fails':<15}{'signal':>9}  found"]
    for row in found["rows"]:
        verdict = ",".join(row["failed"]) or ("no verdict" if row.get("error") else "agrees")
        signal = sig(row["signal"]) if row["signal"] else ""
        said = f"{row['found']['operation']} at {row['found']['where']}" if row["found"] else row.get("error") or ""
        wanted = "" if row["placed"] or not row["operation"] else f"  (it is {row['operation']} at {row['where']})"
        table.append(f"{row['name']:<{width}}{row['backend']:<7}{verdict:<15}{signal:>9}  {said}{wanted}")
    for name, seen in found["rungs"].items():
        alone = f"; {len(seen['alone'])} it alone: {', '.join(seen['alone'])}" if seen["alone"] else ""
        table.append(f"{name} has seen {seen['caught']}, the faintest at {sig(seen['smallest'])} times its bound "
                     f"({seen['faintest']}){alone}")
    for kind, groups in found["by"].items():
        table.append(f"by {kind}: " + ", ".join(
            f"{name} {of['mutants']} ({of['caught']} caught, {of['placed']} placed)" for name, of in groups.items()))
    for row in found.get("inapplicable", ()):
        table.append(f"{row['name']} in {row['backend']} does not apply: no {', no '.join(row['lacks'])}")
    return [*table, f"{found['mutants']} mutants, {found['caught']} caught, {found['placed']} placed; "
            f"{found['neutral']} harmless changes, {found['flagged']} flagged; {found['seconds']:.0f} s"]
