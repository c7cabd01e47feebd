"""`twinscale compare`: both backends train a recipe, and the ladder is climbed."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from twinscale.common.errors import DID_IT, NO, BadInput
from twinscale.common.verbs import shared


def compare(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the runs, the verdict and the report go.")],
    overwrite: shared.Overwrite = False,
    precision: shared.Precision = None,
    origin: Annotated[str | None, typer.Option("--from", metavar="DIR", help="Begin with the weights of a directory of "
                                               "Hugging Face's, or hub:ORG/NAME.")] = None,
    place: Annotated[bool, typer.Option("--place", help="Where they disagree, look for the first cause.")] = False,
    swap: Annotated[bool, typer.Option("--swap", help="Run each program under the other's runtime too.")] = False,
    operations: Annotated[bool, typer.Option("--operations", help="Check every operation by itself too.")] = False,
    outcome: Annotated[str | None, typer.Option(metavar="SEEDS=N", help="Train from N seeds, test results.")] = None,
    meshes: Annotated[bool, typer.Option("--meshes", help="Train each on several devices and hosts too.")] = False,
    columns: Annotated[str | None, typer.Option(metavar="A,B[,C]", help="Two or three: keras, keras-jax, jax.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print verdict.json, or columns.json, and no table.")] = False,
    plant: Annotated[str | None, typer.Option(metavar="[BACKEND][@RUNTIME]:MUTANT", hidden=True)] = None,
) -> None:
    """Train a recipe with both backends and say whether they agree, and if not, where they part.

    Of three columns each pair is compared: is it the program that parts, or the runtime?

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive.
    \b
    Examples:
      twinscale compare recipes/decoder-stdlib.toml --out build/demo
      twinscale compare recipes/mlp-digits.toml --outcome SEEDS=4 --out build/mlp
      twinscale compare recipes/mlp-digits.toml --meshes --out build/meshes
      twinscale compare recipes/mlp-digits.toml --columns keras,keras-jax,jax --out build/columns
      twinscale compare recipes/compress-decoder.toml --out build/compress
      twinscale compare recipes/decoder-stdlib.toml train.steps=50 --swap --place --out build/swap
      twinscale compare recipes/decoder-stdlib.toml train.steps=50 --precision bfloat16 --out build/bf16 --overwrite
    """
    from twinscale.common.files.access import place as directory
    from twinscale.common.recipe.file import given

    asked, left = shared.with_weights(shared.with_precision(overrides, precision), origin)
    if left:
        raise BadInput(f"--from {left}: no directory of the Hugging Face library's, model.safetensors and config.json, "
                       "nor hub:ORG/NAME: a run or its state goes on in `twinscale train --from`")
    described, parts = given(recipe, asked), {"place": place, "swap": swap, "operations": operations, "meshes": meshes}
    if described.compress.stages:
        without(OF_STAGES, **parts, outcome=outcome, plant=plant, columns=columns)
        code = shared.room("benchmarks.compression.compare").compare_compression(
            described, directory(out), overwrite=overwrite, as_json=json)
        shared.say(f"the report is {shlex.quote(str(directory(out) / 'report.html'))}")
        raise typer.Exit(code or DID_IT)
    if described.train.products != "full":
        without(NO_TWIN, **parts, outcome=outcome, columns=columns)
        raise typer.Exit(shared.room("benchmarks.products").check_products(
            described, directory(out), overwrite=overwrite, plant=plant, as_json=json) or DID_IT)
    shared.tell_weights(described)
    seeds = shared.room("benchmarks.rungs.outcome").parse_seeds(outcome) if outcome is not None else None
    several = shared.room("benchmarks.columns_asked").parse_columns(columns) if columns is not None else ()
    module = "benchmarks.columns" if len(several) > 2 else "benchmarks.compare"
    code = shared.room(module).compare(
        described, out=directory(out), columns=several, overwrite=overwrite, plant=plant, seeds=seeds, **parts,
        asked=(recipe, *asked), as_json=json)
    ended(code, out, place, below=shared.room("benchmarks.columns_result").parted_in if len(several) > 2 else None)


def ended(code: int | None, out: str, bisected: bool, below: Callable[[Path], str] | None = None) -> None:
    """Says what can be looked at, or done where they do not agree and nothing was `bisected`, in a directory `below`
    where there are several; exits with the code."""
    from twinscale.common.files.access import place as directory

    if code == NO and not bisected:
        shared.suggest("bisect", os.path.join(out, below(directory(out))) if below else out)
    elif (report := directory(out) / "report.html").exists():
        shared.say(f"the report is {shlex.quote(str(report))}")
    raise typer.Exit(code or DID_IT)


OF_STAGES = "not for a recipe with stages in [compress]; compare it with compress.stages=[]"
NO_TWIN = 'not for products that JAX alone has; compare it with train.products="full"'


def without(why: str, **options: bool | str | None) -> None:
    """Raises BadInput, which says why, for options that such a comparison does not have."""
    for name, value in options.items():
        if value:
            raise BadInput(f"--{name}: {why}")
