"""Which columns a comparison is asked for: `--columns keras,keras-jax,jax`, and what none is made of."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.sides import COLUMNS, USUAL, ColumnPair
from twinscale.common.errors import BadInput
from twinscale.common.families.pair import refuse_of_one
from twinscale.common.files.access import shown

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

WORD = ","  # between columns


def parse_columns(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """The ids of columns in one order, of a text or of several; () where nothing else than Keras and JAX is asked for.
    Raises BadInput for other names, for one column alone and for one that is there twice."""
    if text is None:
        return ()
    names = [name.strip() for name in (text.split(WORD) if isinstance(text, str) else text)]
    said = f"--columns {shown(WORD.join(names), 100)}"
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"{said}: no column is called {shown(name, 40)!r}; expected two or three of "
                           f"{', '.join(COLUMNS)}")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"{said}: {double} is there twice; expected two or three different ones of {', '.join(COLUMNS)}")
    if len(names) < 2:
        raise BadInput(f"{said}: one column has nothing to be compared with; name two or three of {', '.join(COLUMNS)}")
    return () if set(names) == set(USUAL) else tuple(name for name in COLUMNS if name in names)


def columns_in(arguments: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The ids of the columns that the arguments of a comparison name, () where they name none; raises BadInput as
    `parse_columns` does."""
    text = (arguments or {}).get("columns")
    parse_columns(text)
    return tuple(text.split(WORD)) if text else ()


def of_columns(columns: Sequence[str]) -> dict[str, str]:
    """{"columns": as a command is given them}, {} of the usual ones."""
    return {"columns": WORD.join(columns)} if columns else {}


def check_columns(recipe: "Recipe", columns: ColumnPair, swap: bool = False) -> None:
    """Raises BadInput where other columns than the usual ones cannot be trained by a recipe, or a swap is asked of
    them."""
    if not columns:
        return
    if swap:
        raise BadInput("--swap: not with --columns, which say by whole trainings whether the program or the runtime "
                       "parts; leave it out")
    if recipe.compress.stages:
        raise BadInput("--columns: not for a recipe with stages in [compress]; compare it with compress.stages=[]")
    refuse_of_one(recipe.model, "--columns", "its columns are of a Keras program and a Flax one; leave it out")
