"""`twinscale predict-loss`: what a scaling law says of runs that nobody has trained."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def predict_loss(
    fit: Annotated[str, typer.Argument(metavar="FIT", help="A directory or fit.json that fit has left, or "
                                       "hoffmann2022, besiroglu2024, or a TOML file of --law.")],
    *,
    n: Annotated[list[float] | None, typer.Option(metavar="N", help="Parameters; several options are points.")] = None,
    d: Annotated[list[float] | None, typer.Option(metavar="D", help="Tokens trained on.")] = None,
    unique_d: Annotated[list[float] | None, typer.Option(metavar="U", help="Of them those that differ.")] = None,
    bits: Annotated[list[float] | None, typer.Option(metavar="P", help="Of a weight.")] = None,
    sparsity: Annotated[list[float] | None, typer.Option(metavar="S", help="The share of weights that are 0; the law "
                                                         "counts the others as N.")] = None,
    loss: Annotated[list[float] | None, typer.Option(metavar="L", help="Of a law of accuracy.")] = None,
    chance: Annotated[list[float] | None, typer.Option(metavar="SHARE", help="What guessing gets, of such a law.")
                      ] = None,
    level: Annotated[float | None, typer.Option(metavar="SHARE", help="What an interval holds; as the fit.")] = None,
    far: Annotated[bool, typer.Option("--far", help="Trust it beyond 100 times the fit's rows.")] = False,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where prediction.json goes.")] = None,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print prediction.json in place of the table.")] = False,
) -> None:
    """Predict the loss of runs by a fitted law, or what else the law predicts, with intervals of the law and of a run.

    How far each point lies beyond the rows that were fitted is said along N, D and C; beyond 10 times it is warned of,
    beyond 100 times it is refused without --far. An option that is given several times makes several points; one that
    is given once holds for all.

    \b
    Examples:
      twinscale predict-loss build/law --n 1e9 --d 20e9
      twinscale predict-loss build/law --n 1e9 --n 3e9 --n 10e9 --d 100e9 --level 0.8
      twinscale predict-loss build/law --n 1e9 --d 20e9 --out build/prediction
      twinscale predict-loss besiroglu2024 --n 7e9 --d 2e12 --json
    """
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left

    given = {"N": n, "D": d, "unique_D": unique_d, "bits": bits, "sparsity": sparsity, "loss": loss, "chance": chance}
    points = {name: values for name, values in given.items() if values}
    words = ["predict-loss", fit, *shared.figures({name.lower().replace("_", "-"): values for name, values in
                                                   points.items()}),
             *shared.given("level", level), *shared.flag("far", far)]
    with nothing_left(out and place(out)):
        to = shared.room("benchmarks.output").Delivery(out and place(out), overwrite, json, words)
        code = shared.room("benchmarks.laws.predict").predict_loss(fit, points, level=level, far=far, to=to)
    raise typer.Exit(code)
