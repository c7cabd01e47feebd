"""`twinscale compare-runs`: two finished runs, by their traces."""

import shlex
from typing import Annotated

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def compare_runs(
    a: Annotated[str, typer.Argument(metavar="A", help="The directory of a run trained with --trace.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another: of any machine, version, backend or mesh.")],
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the verdict and the report go.")],
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print verdict.json in place of the table.")] = False,
) -> None:
    """Say whether two finished runs agree as far as their traces allow, and if not, where they part.

    Both are read, not trained again: each run's trace holds a twin, by which differences are judged.

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive.
    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/one --trace sketch
      twinscale train recipes/decoder-stdlib.toml devices.data=4 devices.virtual=4 --backend jax --run runs/four \\
        --trace sketch
      twinscale compare-runs runs/one runs/four --out build/one-four
    """
    from twinscale.common.files.access import place

    code = shared.room("benchmarks.runs").compare_runs(place(a), place(b), place(out), overwrite=overwrite,
                                                         as_json=json)
    shared.say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)
