"""`twinscale study`: trains a design of sizes and tokens, to a scaling law of each backend."""

from typing import Annotated

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def study(
    file: Annotated[str, typer.Argument(metavar="STUDY", help="A TOML file: a recipe, backends, seeds and a design.")],
    overrides: shared.Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where runs, results.parquet, laws and the report go.")],
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Runs at once, each in a process.")] = 1,
    on: Annotated[str | None, typer.Option(metavar="WHERE", help="ray=ADDRESS: a cluster of Ray; ray: one of this "
                                           "machine.")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Train nothing: table, laws and report of what is there.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say how many runs there are, and what they cost.")] = False,
    boots: Annotated[int, typer.Option(metavar="N", min=0, max=100_000, help="Resamples of runs.")] = 1000,
    level: Annotated[float, typer.Option(metavar="SHARE", help="What an interval holds.")] = 0.9,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print study.json in place of tables.")] = False,
    precision: shared.Precision = None,
) -> None:
    """Train a design of sizes and tokens in one backend or both, and fit the law of each.

    A design is a grid, profiles of equal operations, or a ladder of any key. Every recipe is looked at before one is
    trained; a study that was cut short goes on with the same command, and may grow. A run that fails is kept with its
    reason. With both backends, whether their laws are one is said by a bootstrap of pairs.

    \b
    Exit code: 0 it is studied, 1 no run came to its end.
    \b
    Examples:
      twinscale study recipes/studies/decoder-stdlib.toml --out build/study
      twinscale study recipes/studies/decoder-stdlib.toml train.global_batch=16 --dry-run --out build/study
      twinscale fit build/study/results.parquet --at 1e15 --out build/law
    """
    from twinscale.common.errors import BadInput
    from twinscale.common.files.access import place

    if not 0 < level < 1:
        raise BadInput(f"--level {level:g}: a share between 0 and 1 is wanted, as 0.9")
    code = shared.room("benchmarks.studies.study").study(
        file=place(file), overrides=tuple(shared.with_precision(overrides, precision)), out=place(out), jobs=jobs,
        on=on, trains=not fit, dry=dry, boots=boots, level=level, overwrite=overwrite, as_json=json)
    if code == DID_IT and not dry:
        shared.suggest("fit", f"{out}/results.parquet", "--out", f"{out}-law")
    raise typer.Exit(code or DID_IT)
