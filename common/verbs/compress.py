"""`twinscale compress`: a finished run's model, made smaller stage by stage."""

import shlex
from typing import Annotated, Literal

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def compress(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run of any backend.")],
    overrides: shared.Overrides = None,
    *,
    recipe: Annotated[str, typer.Option(metavar="R", help="A recipe with stages in [compress].")],
    backend: Annotated[Literal["keras", "jax"], typer.Option(help="What compresses it.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the stages, compression.json and the report go.")],
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print compression.json in place of the table.")] = False,
    accept_data: shared.AcceptData = False,
) -> None:
    """Compress the model of a finished run, stage by stage, as a recipe's [compress] says: prune, quantise-aware
    training, clustering, distillation, or 8 bits without training. Ends with what ships: metric against bytes against
    latency. Cut short, the same command goes on.

    \b
    Examples:
      twinscale train recipes/compress-convnet.toml --backend jax --run runs/convnet
      twinscale compress runs/convnet --recipe recipes/compress-convnet.toml --backend keras --out build/convnet
      twinscale compress runs/convnet compress.stages='[{kind="post_training"}]' \\
        --recipe recipes/compress-convnet.toml --backend jax --out build/int8
    """
    from twinscale.common.files.access import place
    from twinscale.common.recipe.file import given

    code = shared.room("benchmarks.compression.compare").compress(
        given(recipe, overrides or []), place(run), place(out), backend, overwrite=overwrite,
        accept_data=accept_data, as_json=json)
    shared.say(f"the report is {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)
