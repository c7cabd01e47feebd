"""A check in words: its table, a line for each step that has ended, and the sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from twinscale.benchmarks.device_check.result import Ended
from twinscale.benchmarks.numbers import sig
from twinscale.common.backends import BACKENDS
from twinscale.common.files.output import safe_console, table_of

SPOKEN = {name: each.title for name, each in BACKENDS.items()}
WORDS = {"holds": "holds", "no": "NO", "open": "open", "skipped": "skipped", "failed": "FAILED"}


def told(step: Ended) -> str:
    """A step that has ended, in a line."""
    return f"{step.title}: {WORDS[step.state]}: {step.said}"


def sentence(steps: Sequence[Ended]) -> str:
    """What came of a check: how many steps hold, and by name those that do not and those that were skipped."""
    named = {state: [step.name for step in steps if step.state == state] for state in WORDS}
    parts = [f"{len(named['holds'])} of {len(steps)} steps hold"]
    for state, words in (("no", "do not"), ("failed", "failed"), ("open", "stay open"), ("skipped", "were skipped")):
        if named[state]:
            parts.append(f"{len(named[state])} {words} ({', '.join(named[state])})")
    return "; ".join(parts) + "."


def show(result: Mapping[str, Any]) -> None:
    """Prints a check's steps as a table on stdout, and its sentence."""
    title = "Check of this machine's device" + ", rehearsed on the CPU" * result["rehearsed"]
    table = table_of(("step", "backend", "result", "what was seen", "s"), title=title, right=(4,))
    for step in result["steps"]:
        backends = ", ".join(SPOKEN[backend] for backend in step["backends"]) or "–"
        table.add_row(step["name"], backends, WORDS[step["state"]], step["said"], sig(step["seconds"], 2))
    console = safe_console()
    console.print(table)
    console.print(result["sentence"])
