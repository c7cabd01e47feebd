"""`twinscale data fetch` and `list`: data sets of others, made ready for a recipe; `check`: what rules remove of a
recipe's texts."""

import shlex
from typing import Annotated

import typer

from twinscale.common.errors import BadInput, CannotSave, one_of
from twinscale.common.verbs import shared

app = shared.group("Fetch data sets of others, or check a recipe's texts.")


@app.command("fetch", short_help="Fetch a data set.")
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="fashion-mnist or wordnet: see `twinscale data list`.")],
    *,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Where it is made; data/NAME unless given.")] = None,
    origin: Annotated[str | None, typer.Option("--from", metavar="FILE.deb", help="The Debian package, where you have "
                                               "it: nothing is downloaded.")] = None,
    overwrite: shared.Overwrite = False,
) -> None:
    """Make a data set ready, out of a Debian package that `apt-get download` fetches; no root is needed, and nothing is
    installed. Each file that is read of it is checked against a pinned SHA-256.

    What is there already is left as it is. The data stay their owners': source and licence stand in source.json.

    \b
    Examples:
      twinscale data fetch fashion-mnist
      twinscale data fetch wordnet --out data/glosses
      twinscale data fetch wordnet --from wordnet-base_3.0-37_all.deb
    """
    from twinscale.common.data import fetch as sets
    from twinscale.common.files.access import local, place

    one, where = one_of(sets.SETS, name, "NAME"), place(out or f"data/{name}")
    if not local(where):
        raise BadInput(f"--out {out}: a directory of this machine is wanted")
    try:
        fresh = sets.fetch(name, where, origin, overwrite)
    except OSError as error:
        raise CannotSave(f"--out {where}: cannot be written: {error.strerror}: choose another directory") from None
    said = f"data.source={sets.source_of(name, where)}"
    shared.say(f"{where} {'is' if fresh else 'was already'} made: {one.title}; {one.licence}; {one.source}")
    shared.say(f"use it by {shlex.quote(said)}")
    if one.recipe:
        backend = shared.first_installed()
        shared.suggest("train", f"recipes/{one.recipe}.toml", *([said] if out else []), "--backend", backend, "--run",
                       f"runs/{one.recipe}")


@app.command("list", short_help="List data sets that can be fetched.")
def list(
    *,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with the SHA-256 of each file.")] = False,
) -> None:
    """Print the data sets that `fetch` knows: what each is, its source, its licence and its package.

    \b
    Example:
      twinscale data list
    """
    from twinscale.common.data.fetch import SETS

    if json:
        keys = ("title", "package", "version", "source", "licence", "files")
        shared.print_json({"schema_version": 1, "sets": {
            name: {key: getattr(one, key) for key in keys} for name, one in SETS.items()}})
        return
    for name, one in SETS.items():
        print(f"{name}\n  {one.title}\n  source   {one.source}\n  licence  {one.licence}\n"
              f"  package  {one.package} {one.version}")


@app.command("check", short_help="Say what rules of quality remove.")
def check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's TOML file.")],
    overrides: shared.Overrides = None,
    *,
    examples: Annotated[int, typer.Option(metavar="N", min=0, max=5, help="Texts shown of each reason.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with all examples and who has proposed each.")] = False,
) -> None:
    """Say how many texts to train on data.quality of a recipe removes, for which reason, with examples, and what
    data.subset takes of the rest. Nothing is trained; held-out texts are never removed.

    \b
    Examples:
      twinscale data check recipes/decoder-stdlib.toml 'data.quality=["length", "repetition", "exact"]'
      twinscale data check recipes/decoder-stdlib.toml data.subset.share=0.25 --json
    """
    from twinscale.common.data.quality.report import report, told
    from twinscale.common.recipe.file import given

    found = report(given(recipe, overrides or []))
    if json:
        shared.print_json(found)
        return
    print(told(found, examples))
