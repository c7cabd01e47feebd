"""Two samplers side by side: both backends of one run, or two runs, each in a process of its own, and whether their
tokens are the same.

Rows are compared up to where they first part: what follows has another context. A parting is explained where the margin
of the token is within what rounding may make of a logit, on either side; it is a near tie, and no error of a program.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twinscale.common import process
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, TwinscaleError, error_of
from twinscale.common.generation.run import Wanted


def asked_of(path: Path, backend: str, words: Sequence[str]) -> dict[str, Any]:
    """What `twinscale generate PATH --backend BACKEND --json` with more words prints, by a process of its own. Raises
    the TwinscaleError that it ends with."""
    command = process.helper("twinscale.common.cli", "generate", path, "--backend", backend, "--json", *words)
    made = process.run(command, encoding="utf-8", errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, env={**os.environ, **process.QUIET, process.CHILD: "1",
                                                    "XLA_PYTHON_CLIENT_PREALLOCATE": "false"})
    if made.returncode not in (DID_IT, NO) or not made.stdout.strip():
        spoken = [line.removeprefix("twinscale: ") for line in made.stderr.splitlines() if line.strip()]
        raise error_of(made.returncode, f"{backend}: {(spoken or ['ended without a word'])[-1]}")
    return json.loads(made.stdout)


def words_of(wanted: Wanted, precision: str | None) -> list[str]:
    """What is wanted as options of the command line."""
    drawing = wanted.drawing
    given = {"--tokens": wanted.tokens, "--temperature": drawing.temperature, "--top-k": drawing.top_k,
             "--top-p": drawing.top_p, "--seed": drawing.seed, "--precision": precision}
    flags = {"--greedy": drawing.greedy, "--no-cache": not wanted.cached, "--check": wanted.check}
    return [*(word for prompt in wanted.prompts for word in ("--prompt", prompt)),
            *(word for stop in wanted.stops for word in ("--stop", stop)),
            *(word for name, value in given.items() if value is not None for word in (name, str(value))),
            *(name for name, there in flags.items() if there)]


def beside(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """{"equal", "of" (tokens of the longer rows), "partings": [{"row", "token", "margins", "near_tie"}], "sides"} of
    what two samplers gave for the same prompts. Raises TwinscaleError where the prompts are others."""
    if [row["prompt"] for row in one["rows"]] != [row["prompt"] for row in other["rows"]]:
        raise TwinscaleError("the two samplers went on from other prompts")
    equal, total, partings = 0, 0, []
    moves = max(one["moves"], other["moves"])
    for number, (a, b) in enumerate(zip(one["rows"], other["rows"], strict=True), 1):
        count = max(len(a["ids"]), len(b["ids"]))
        at = next((i for i, (x, y) in enumerate(zip(a["ids"], b["ids"], strict=False)) if x != y),
                  min(len(a["ids"]), len(b["ids"])))
        total, equal = total + count, equal + at
        if at < count:
            margins = [row["margins"][at] if at < len(row["ids"]) else None for row in (a, b)]
            near = any(margin is not None and margin <= moves for margin in margins)
            partings.append({"row": number, "token": at + 1, "margins": margins, "near_tie": near})
    return {"equal": equal, "of": total, "partings": partings, "moves": moves, "sides": [one, other]}


def lines(found: Mapping[str, Any]) -> list[str]:
    """The answer as text."""
    one, other = found["sides"]
    said = [f"{found['equal']} of {found['of']} tokens are the same: {one['backend']} on {one['run']}, "
            f"{other['backend']} on {other['run']}"]
    for parting in found["partings"]:
        margin = min((margin for margin in parting["margins"] if margin is not None), default=float("inf"))
        said.append(f"row {parting['row']} parts at token {parting['token']}, whose margin of {margin:.2g} is "
                    + ("a near tie, within" if parting["near_tie"] else "no near tie: it is above")
                    + f" the {found['moves']:.2g} that rounding may make of a logit")
    return said


def exit_code(found: Mapping[str, Any]) -> int:
    """0 where all tokens are the same and both samplers are their trainers, 3 where but near ties part them, 1 else."""
    holds = all(held["holds"] for side in found["sides"] for held in side["trainer"])
    if not holds or not all(parting["near_tie"] for parting in found["partings"]):
        return NO
    return INCONCLUSIVE if found["partings"] else DID_IT
