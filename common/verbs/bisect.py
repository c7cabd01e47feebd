"""`twinscale bisect`: the first cause of a disagreement."""

import shlex
from typing import Annotated

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def bisect(
    out: Annotated[str, typer.Argument(metavar="DIR", help="The directory of a comparison that disagrees.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print verdict.json in place of the table.")] = False,
) -> None:
    """Look for the first cause of a disagreement: the step, then the operation, forward, backward or in the update.

    Every operation is given the other backend's numbers, so that none is blamed for another's.

    \b
    Exit code: 0 it was found, 3 nothing was.
    \b
    Example:
      twinscale bisect build/demo
    """
    from twinscale.common.files.access import place

    code = shared.room("benchmarks.compare").bisect(place(out), as_json=json)
    shared.say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)
