"""Functions of the user's own that a table of a recipe names, one for each room."""

import traceback
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from twinscale.common import registry
from twinscale.common.errors import BadInput, first_line
from twinscale.common.section import FreeTable

SHOWN = 6  # lines of a user's own traceback


def a_function(name: str) -> str:
    """A reference whose FILE is pinned; it is loaded only by the process that runs it."""
    if not registry.is_reference(name):
        raise ValueError(f'"{name}" names no function: write FILE.py:OBJECT or MODULE:OBJECT')
    return registry.pinned(name)


def free(values: dict[str, Any]) -> FreeTable:
    """A table of options as it is kept: with tuples for lists."""
    return FreeTable({key: tuple(x) if isinstance(x, list) else x for key, x in values.items()})


Function = Annotated[str, AfterValidator(a_function)]
Values = Annotated[dict[str, bool | int | float | str | list[int | float | str] | tuple[int | float | str, ...]],
                   AfterValidator(free)]
OPTIONS: Any = Field(default_factory=FreeTable, description="keyword arguments of both functions")


def called(table: str, section: Any, side: str, wanted: str, *given: Any) -> Any:
    """What the user's function of a side, "keras" or "jax", returns of what it is given and the section's options.

    Args:
      table: the recipe's table that names it. section: its values. wanted: what it is to return, in words.
    Raises BadInput where it is none or breaks: with the place in the user's code.
    """
    name = {"keras": section.keras, "jax": section.jax}[side]
    options = {key: list(x) if isinstance(x, tuple) else x for key, x in section.options.items()}
    return applied(f"{table}.{side}", name, wanted, *given, **options)


def applied(key: str, name: str, wanted: str, *given: Any, **options: Any) -> Any:
    """What the function that a recipe's `key` names returns of what it is given and its options; `wanted` says what it
    is to return, in words. Raises as `called` does."""
    function = registry.load(registry.Registry(f"{key} of the user's own", key, {}), name)
    where = f"{key} = {registry.short(name)}"
    if not callable(function):
        raise BadInput(f"{where}: {type(function).__name__}: a function that returns {wanted} is wanted")
    try:
        return function(*given, **options)
    except BadInput as error:  # which says all
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:
        lines = [line for line in traceback.format_exception(error) if "/twinscale/" not in line][-SHOWN:]
        raise BadInput(f"{where}: breaks when it is called with options {options}: {type(error).__name__}: "
                       f"{first_line(error, 300)}\n" + "".join(lines)) from error
