"""`twinscale plan`: chips, days and money of a training."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def plan(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A recipe's TOML file.")] = None,
    overrides: shared.Overrides = None,
    *,
    topology: Annotated[list[str] | None, typer.Option(metavar="T", help="A slice, such as v5e-256; several are put "
                                                       "side by side.")] = None,
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Of each, joined by the data-centre network.")] = 1,
    flops: Annotated[float | None, typer.Option(metavar="C", help="Operations of the training, as 1e21.")] = None,
    tokens: Annotated[float | None, typer.Option(metavar="D", help="In place of the recipe's steps x batch.")] = None,
    law: Annotated[str | None, typer.Option(metavar="LAW", help="hoffmann2022, besiroglu2024 or a TOML file with e, a, "
                                            "b, alpha, beta: the tokens of a size, the size of a budget.")] = None,
    mfu: Annotated[str | None, typer.Option(metavar="LOW:HIGH", help="The MFU that you expect, as 0.3:0.5.")] = None,
    measured: Annotated[str | None, typer.Option(metavar="JSON", help="A run.json or bench.json of that chip.")] = None,
    ceiling: Annotated[str | None, typer.Option(metavar="DIR", help="What preflight has left.")] = None,
    prices: Annotated[str | None, typer.Option(metavar="TOML", help="What an hour costs.")] = None,
    days: Annotated[float | None, typer.Option(metavar="N", min=0, help="A deadline: how much fits into it?")] = None,
    serve: Annotated[float | None, typer.Option(metavar="TOKENS", help="Tokens to be served, at 2 N each, out of "
                                                "--flops.")] = None,
    unique_tokens: Annotated[float | None, typer.Option(metavar="U", help="Tokens that differ; more repeat.")] = None,
    far: Annotated[bool, typer.Option("--far", help="Trust a fitted law beyond 100 times its rows.")] = False,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where plan.json goes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print plan.json in place of the table.")] = False,
) -> None:
    """Say how long a training takes on a slice and what it costs, as an interval of the MFU: at its end a roofline,
    inside it what you state or have measured; and with a deadline how many tokens it allows.

    \b
    Examples:
      twinscale plan --flops 1e21 --topology v5e-256 --mfu 0.3:0.5 --prices recipes/tpu/prices.toml
      twinscale plan recipes/tpu/decoder-1b.toml --law hoffmann2022 --topology v5e:4x4 --ceiling build/1b --mfu 0.4
      twinscale plan recipes/tpu/decoder-8b.toml --tokens 160e9 --topology v5p-128 --topology v5e-256 --mfu 0.3:0.5
      twinscale plan --law besiroglu2024 --days 30 --topology v5p-512 --mfu 0.4
      twinscale plan --flops 1e22 --law besiroglu2024 --serve 1e12 --topology v5p-512
    """
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left
    from twinscale.common.recipe.file import given

    described = given(recipe, overrides or []) if recipe else None
    with nothing_left(out and place(out)):
        code = shared.room("benchmarks.planning.plan").plan(
            described, topologies=topology or (), slices=slices, flops=flops, tokens=tokens, law=law, mfu=mfu,
            measured=measured, ceiling=ceiling, prices=prices, days=days,
            serve=serve, unique=unique_tokens, far=far, out=out and place(out), as_json=json)
    if recipe and topology and not ceiling:
        shared.suggest("preflight", recipe, *(overrides or []), "--topology", topology[0], "--out", "build/preflight")
    raise typer.Exit(code)
