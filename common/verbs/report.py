"""`twinscale report`: the page of one run."""

import shlex
from typing import Annotated

import typer

from twinscale.common.verbs import shared


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, at its end or not.")],
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the page and report.json go.")],
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print report.json in place of the sentence.")] = False,
) -> None:
    """Write the page of one run: how far it came, learning curves, held-out metrics and the recipe; of a run with
    metrics of classes or entities also bars, confusion, reliability, and the examples that it is furthest off on.

    Only files are read. The examples are of the data: where these are not at hand, or have changed, the page says so.

    \b
    Exit code: 0, however the run went; 2 where there is no run.
    \b
    Examples:
      twinscale report runs/jax --out build/page
      twinscale report runs/jax --out build/page --overwrite --json
    """
    from twinscale.common.files.access import place

    shared.room("benchmarks.one_run").report(place(run), place(out), overwrite=overwrite, as_json=json)
    shared.say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
