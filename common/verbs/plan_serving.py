"""`twinscale plan-serving`: the best size, bits and sparsity for what serving may take."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared


def plan_serving(
    *,
    law: Annotated[str, typer.Option(metavar="LAW", help="A directory that fit has left (chinchilla, precision or "
                                     "sparsity), hoffmann2022, besiroglu2024, or a TOML file with five numbers.")],
    memory: Annotated[float | None, typer.Option(metavar="BYTES", help="That the weights may take.")] = None,
    flops_per_token: Annotated[float | None, typer.Option(metavar="F", help="That a served token may take.")] = None,
    flops: Annotated[float | None, typer.Option(metavar="C", help="Operations of the training, as 1e21.")] = None,
    tokens: Annotated[float | None, typer.Option(metavar="D", help="To train on, in place of --flops.")] = None,
    serve: Annotated[float | None, typer.Option(metavar="TOKENS", help="To be served, out of --flops.")] = None,
    bits: Annotated[list[float] | None, typer.Option(metavar="P", help="A candidate; else 16, 8, 6, 4 and 3.")] = None,
    sparsity: Annotated[list[float] | None, typer.Option(metavar="S", help="A candidate; else 0, 0.5, 0.75 and 0.875.")
                        ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="N:D", help="A teacher that there is, its parameters and "
                                                "tokens: candidates are distilled too.")] = None,
    bits_law: Annotated[str | None, typer.Option(metavar="DIR", help="A fit of --law precision; else the literature.")
                        ] = None,
    sparsity_law: Annotated[str | None, typer.Option(metavar="DIR", help="A fit of --law sparsity; else the "
                                                     "literature.")] = None,
    far: Annotated[bool, typer.Option("--far", help="Trust the law beyond 100 times its rows.")] = False,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where serving.json goes.")] = None,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print serving.json in place of the table.")] = False,
) -> None:
    """Say which size, bits and sparsity, distilled or not, have the least loss for a serving budget.

    What bits and sparsity cost is taken from your own fits, or else from published constants, which are marked as such:
    they are of other models on other data.

    \b
    Examples:
      twinscale plan-serving --law build/law --memory 4e9 --flops 1e21
      twinscale plan-serving --law besiroglu2024 --memory 4e9 --flops-per-token 8e9 --flops 1e22 --serve 1e12
      twinscale plan-serving --law build/law --bits-law build/law-bits --memory 1e9 --tokens 20e9 --teacher 7e9:140e9
      twinscale plan-serving --law build/law --memory 4e9 --flops 1e21 --out build/serving
    """
    from twinscale.common.files.access import place
    from twinscale.common.files.output import nothing_left

    wanted = {"memory": memory, "per_token": flops_per_token, "flops": flops, "tokens": tokens, "served": serve or 0.0,
              "teacher": teacher, "bits": bits or (), "sparsity": sparsity or (), "far": far}
    words = ["plan-serving", "--law", law, *shared.figures({
        "memory": memory, "flops-per-token": flops_per_token, "flops": flops, "tokens": tokens, "serve": serve,
        "bits": bits, "sparsity": sparsity}), *shared.given("teacher", teacher), *shared.given("bits-law", bits_law),
        *shared.given("sparsity-law", sparsity_law), *shared.flag("far", far)]
    with nothing_left(out and place(out)):
        to = shared.room("benchmarks.output").Delivery(out and place(out), overwrite, json, words)
        code = shared.room("benchmarks.planning.compress").plan_serving(law, wanted, bits_law, sparsity_law, to)
    raise typer.Exit(code)
