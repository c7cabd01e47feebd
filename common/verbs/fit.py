"""`twinscale fit`: a scaling law of results."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def fit(
    results: Annotated[str, typer.Argument(metavar="RESULTS", help="A .csv or .parquet file, a row a run.")],
    *,
    law: Annotated[str, typer.Option(metavar="LAW", help="chinchilla, over-training, repetition, precision, sparsity, "
                                     "learning-rate, batch-size or accuracy.")] = "chinchilla",
    objective: Annotated[str, typer.Option(metavar="LOSS", help="huber, absolute or asymmetric.")] = "huber",
    delta: Annotated[float, typer.Option(metavar="X", help="Huber's, of log residuals.")] = 1e-3,
    tilt: Annotated[float, typer.Option(metavar="SHARE", help="Of asymmetric: above 0.5, predictions that are too high "
                                        "cost more.")] = 0.5,
    column: Annotated[list[str] | None, typer.Option(metavar="NAME=THEIRS", help="What the file calls a column, as "
                                                     "N=params.")] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave out rows where it says true.")] = None,
    drop_highest: Annotated[int, typer.Option(metavar="K", min=0, help="Leave out the K highest losses.")] = 0,
    chance: Annotated[float, typer.Option(metavar="SHARE", help="Of accuracy: what guessing gets.")] = 0.0,
    at: Annotated[list[float] | None, typer.Option(metavar="FLOPS", help="A budget: the best size for it.")] = None,
    far: Annotated[bool, typer.Option("--far", help="Trust it beyond 100 times the largest run's compute.")] = False,
    boots: Annotated[int, typer.Option(metavar="N", min=0, help="Resamples of runs, for intervals.")] = 4000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the resamples.")] = 42,
    level: Annotated[float, typer.Option(metavar="SHARE", help="What an interval holds.")] = 0.9,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where fit.json, law.toml and the report go.")] = None,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print fit.json in place of tables.")] = False,
) -> None:
    """Fit a scaling law to results of runs, from anywhere, and say how far it may be trusted.

    Columns are N (parameters), D (tokens), C (operations; one of the three may be missing: C = 6 N D), loss, and run
    where rows are checkpoints; further ones by law. What is fitted is a sum of robust losses of log residuals, with a
    certificate that it converged, intervals by resampling runs and by profiles, errors on larger runs that were held
    out, and the best size by Chinchilla's three approaches.

    \b
    Examples:
      twinscale fit results.csv --out build/law
      twinscale fit results.parquet --at 1e21 --at 1e22 --level 0.8 --out build/law
      twinscale fit theirs.csv --column N=params --column D=tokens --drop diverged --objective absolute
      twinscale plan --law build/law/law.toml --flops 1e21 --topology v5e-256 --mfu 0.4
    """
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left

    words = ["fit", results, "--law", law, *(word for name in drop or () for word in ("--drop", name)),
             *(word for flops in at or () for word in ("--at", f"{flops:g}"))]
    with nothing_left(out and place(out)):
        code = shared.room("benchmarks.laws.fit").fit(
            results, law=law, objective=objective, delta=delta, tilt=tilt, columns=column or (), drop=drop or (),
            drop_highest=drop_highest, chance=chance, at=at or (), far=far, boots=boots, seed=seed, level=level,
            out=out and place(out), overwrite=overwrite, as_json=json, words=words)
    if out and law == "chinchilla":
        shared.suggest("plan", "--law", f"{out}/law.toml", "--flops", "1e21", "--topology", "v5e-256", "--mfu", "0.4")
    raise typer.Exit(code)
