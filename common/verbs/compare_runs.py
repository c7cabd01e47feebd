"""`twinscale compare-runs`: two finished runs, by their traces; or trainings of others, by their losses."""

import shlex
from typing import Annotated

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared

Column = Annotated[list[str] | None, typer.Option(
    metavar="NAME", help="Of a foreign side: the column, key or tag. Once for both, or once each.")]


def compare_runs(
    a: Annotated[str, typer.Argument(metavar="A", help="A run trained with --trace, or a foreign loss curve.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another: of any machine, version, backend or mesh.")],
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the verdict and the report go.")],
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print verdict.json in place of the table.")] = False,
    step_column: Column = None,
    loss_column: Column = None,
    shift: Annotated[int | None, typer.Option(metavar="N", help="Of a foreign side: added to the steps of B.")] = None,
    weights: Annotated[tuple[str, str] | None, typer.Option(
        metavar="CK_A CK_B", help="Of a foreign side: checkpoints to compare tensor by tensor.")] = None,
    match: Annotated[str | None, typer.Option(metavar="FILE", help="match.toml, by which --weights goes.")] = None,
) -> None:
    """Say whether two finished runs agree as far as their traces allow, and if not, where they part.

    Both are read, not trained again: each run's trace holds a twin, by which differences are judged. A or B may be of a
    training that Twinscale never ran: the losses of a CSV, of JSON lines or of TensorBoard's events. Then there is no
    twin; differences are shown, nothing is bounded, and it stays open whether they agree.

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive, as it always is of a foreign one.
    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/one --trace sketch
      twinscale train recipes/decoder-stdlib.toml devices.data=4 devices.virtual=4 --backend jax --run runs/four \\
        --trace sketch
      twinscale compare-runs runs/one runs/four --out build/one-four
      twinscale compare-runs runs/one theirs.csv --out build/one-theirs --loss-column nll --shift -1
    """
    from twinscale.common.files.access import place
    from twinscale.common.foreign.curves import is_foreign

    one, other, at = place(a), place(b), place(out)
    if is_foreign(one) or is_foreign(other):
        room = shared.room("benchmarks.foreign")
        asked = room.Asked(tuple(step_column or ()), tuple(loss_column or ()), shift or 0,
                           tuple(map(place, weights)) if weights else None, place(match) if match else None)
        code = room.compare_foreign(one, other, at, asked, overwrite=overwrite, as_json=json)
    else:
        given = {"step-column": step_column, "loss-column": loss_column, "shift": shift, "weights": weights,
                 "match": match}
        shared.only("two runs of Twinscale, whose traces hold their losses and states", **{
            name: value or None for name, value in given.items()})
        code = shared.room("benchmarks.runs").compare_runs(one, other, at, overwrite=overwrite, as_json=json)
    shared.say(f"the report is {shlex.quote(str(at / 'report.html'))}")
    raise typer.Exit(code or DID_IT)
