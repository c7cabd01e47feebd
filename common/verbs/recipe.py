"""`twinscale recipe`: what a recipe says, and may say, and those that come with Twinscale."""

from typing import Annotated

import typer

from twinscale.common.verbs import shared

app = shared.group("Look at recipes.")


@app.command("show", short_help="Print a whole recipe with origins.")
def show(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with the recipe's hash.")] = False,
) -> None:
    """Print the whole recipe, and for each value the file it came from, "override" or "default".

    \b
    Examples:
      twinscale recipe show recipes/decoder-stdlib.toml
      twinscale recipe show recipes/decoder-stdlib.toml model.layers=8 --json
    """
    from twinscale.common.recipe.file import dumps, resolve

    described, origins = resolve(recipe, overrides or [], users=True)
    if json:
        shared.print_json({"schema_version": 1, "hash": described.hash, "recipe": described.model_dump(mode="json"),
                           "origins": origins})
    else:
        print(dumps(described, origins), end="")
    backend = shared.first_installed()
    shared.suggest("train", recipe, *(overrides or []), "--backend", backend, "--run",
                   f"runs/{described.name}-{backend}")


@app.command("schema", short_help="Print the JSON schema of recipes.")
def schema() -> None:
    """Print the JSON schema of recipes: every key, its type, bounds, default and meaning.

    \b
    Example:
      twinscale recipe schema > recipe.schema.json
    """
    from twinscale.common.recipe.schema import Recipe

    shared.print_json(Recipe.model_json_schema())
    shared.suggest("recipe", "show", shared.shipped())


@app.command("list", short_help="List the recipes that come along.")
def list(*, json: Annotated[bool, typer.Option("--json", help="As JSON, {name: what it is}.")] = False) -> None:
    """List the recipes that come with Twinscale: a name, by which every verb takes it, and what it is.

    \b
    Example:
      twinscale recipe list
    """
    from twinscale.common.recipe.shipped import listed

    rows = listed()
    if json:
        shared.print_json(rows)
        return
    width = max(map(len, rows), default=0)
    for name, words in rows.items():
        print(f"{name.ljust(width)}  {words}")


@app.command("copy", short_help="Copy one that comes along, with its data.")
def copy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `twinscale recipe list` has it.")],
    *,
    to: Annotated[str, typer.Option(metavar="DIR", help="Where recipes/NAME.toml and its data go.")] = ".",
) -> None:
    """Copy a recipe that comes with Twinscale, those that it extends and the sample of data that it reads, to change
    them, or to train on the sample from where they are: data.source is as seen from DIR.

    \b
    Example:
      twinscale recipe copy ner-conll --to mine
    """
    from pathlib import Path

    from twinscale.common.recipe.shipped import copied

    for file in copied(name, Path(to)):
        shared.say(f"copied: {file}")
