"""`twinscale audit`: whether the gate catches what is planted, and nothing else."""

from typing import Annotated

import typer

from twinscale.common.errors import DID_IT, BadInput
from twinscale.common.verbs import shared


def audit(
    overrides: shared.Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the trials and audit.json go.")],
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print audit.json or clean.json in place of words.")] = False,
    recipe: Annotated[str | None, typer.Option("--recipe", metavar="RECIPE", help="Plant in a recipe of your own all "
                                                                                  "that shows in it.")] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Plant only what has such a name.")] = None,
    clean: Annotated[int, typer.Option(metavar="N", min=0, help="Plant nothing: make N comparisons of recipes that are "
                                                                "drawn by number, none to be flagged.")] = 0,
    first: Annotated[int, typer.Option("--from", metavar="K", min=0, help="Of --clean: the first number.")] = 0,
) -> None:
    """Audit the gate itself: plant semantic errors, each to be caught and placed, and harmless changes, none to be.

    They are planted in small recipes made for it, or with --recipe in your own, with its overrides: what does not apply
    to it is listed. Of a pair they are planted in your two programs, at each place of the match. With --clean nothing
    is planted. What is done stays in DIR and is added up: the same command goes on, and other numbers may follow.

    \b
    Exit code: 0 all were and none was, 1 otherwise.
    \b
    Examples:
      twinscale audit --out build/audit
      twinscale audit --only '*norm*' --out build/norms
      twinscale audit --recipe recipes/mlp-digits.toml train.steps=8 --out build/mine
      twinscale audit --recipe pair.toml --only 'scaled_output@*' --out build/pair
      twinscale audit --clean 300 --out build/clean
    """
    from twinscale.common.files.access import place

    if only and clean:
        raise BadInput("--only: says what to plant, and --clean plants nothing; leave one of them out")
    if first and not clean:
        raise BadInput("--from: the first number of --clean, which is missing; add --clean N")
    if recipe and clean:
        raise BadInput("--recipe: says where to plant, and --clean plants nothing; leave one of them out")
    if overrides and not recipe:
        raise BadInput(f"{overrides[0]}: changes a recipe, and none is given; add --recipe RECIPE")
    if clean:
        code = shared.room("benchmarks.clean").clean(place(out), clean, first, overwrite=overwrite, as_json=json)
    else:
        from twinscale.common.recipe.file import given

        asked = shared.with_precision(overrides, None)
        why = "what is planted is planted by framework"
        own = shared.of_two(given(recipe, asked), "audit", why) if recipe else None
        code = shared.room("benchmarks.audit").audit(place(out), overwrite=overwrite, only=only, as_json=json, own=own,
                                                     asked=(recipe, *asked) if recipe else ())
    shared.suggest("compare", *((recipe, *asked) if recipe else (shared.shipped(),)), "--out", "build/compared")
    raise typer.Exit(code or DID_IT)
