"""`twinscale match`: which tensor of a pair is which."""

from typing import Annotated

import typer

from twinscale.common.errors import BadInput
from twinscale.common.verbs import shared


def match(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the match and the weights there.")] = False,
    from_: Annotated[str | None, typer.Option(
        "--from", metavar="CHECKPOINT", help="Make the first weights of a checkpoint's.")] = None,
    of: Annotated[str | None, typer.Option(metavar="SIDE", help="Whose it is: keras, or flax; a, or b.")] = None,
    runtime: shared.Runtime = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Find which tensors of the two programs of a pair are one another's, and write it down.

    Of a recipe whose model is a pair, into the file that it names as model.match: a line a tensor, to be read and
    changed by hand; beside it the first program's first weights. Names, sizes and blocks give a first match, and trials
    on one batch correct it, until outputs agree.

    First weights may be a checkpoint's: a .keras, .weights.h5, safetensors, msgpack or .npz file, or a directory of
    Orbax. One of the second program is carried back by the match.

    \b
    Exit code: 0 outputs agree under the match, 1 they do not, and the match is that of the names.
    \b
    Examples:
      twinscale match pair.toml
      twinscale match pair.toml model.match=mine.toml --overwrite
      twinscale match pair.toml --from port.msgpack --of flax
      twinscale match pair.toml --runtime jax
    """
    from twinscale.common.files.access import place
    from twinscale.common.recipe.file import given

    if of is not None and from_ is None:
        raise BadInput(f"--of {of}: whose checkpoint --from CHECKPOINT is, which is not given")
    room = shared.room("benchmarks.matching")
    checkpoint = place(from_) if from_ is not None else None
    found = room.match(given(recipe, overrides or ()), overwrite, checkpoint, of, runtime)
    if json:
        shared.print_json(found)
    else:
        room.said(found)
    shared.suggest("compare", recipe, *(overrides or []), "--out", "build/pair")
    raise typer.Exit(found["exit_code"])
