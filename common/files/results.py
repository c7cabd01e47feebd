"""What a command leaves as JSON, as pydantic models: one definition for who makes a result and who reads it back.

A result's keys are its attributes; by their names they may be asked for as well, `rung["worst"]`, as of the JSON. What
has been left out is no key of it, and its attribute is None. Other keys are kept, as a later version may write them.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, WrapValidator
from pydantic_core import PydanticKnownError

from twinscale.common.files.access import adapter, plain, write_json


class Result(BaseModel):
    """A result, or a part of one."""

    model_config = ConfigDict(extra="allow", strict=True)

    def keys(self) -> list[str]:
        """The names of what has been given, in the order of the definition; other keys come last."""
        given = self.model_fields_set
        return [*(name for name in type(self).model_fields if name in given), *(self.model_extra or ())]

    def __contains__(self, key: object) -> bool:
        """Whether a key has been given."""
        return key in self.model_fields_set

    def __getitem__(self, key: str) -> Any:
        """The value of a key; raises KeyError where it has been left out."""
        if key not in self.model_fields_set:
            raise KeyError(key)
        return getattr(self, key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default where it has been left out."""
        return getattr(self, key) if key in self.model_fields_set else default

    def __or__(self, more: Mapping[str, Any]) -> Self:
        """The same with other values for some keys, checked again."""
        return type(self).model_validate({**self, **more})


def _number(value, check, info):
    """Of a file a number that JSON has; of our own arithmetic infinity and NaN too, which are written as null. Whole
    ones stay whole."""
    number = check(value)
    if info.mode == "json" and number is not None and not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    return value if isinstance(value, int) and abs(value) <= 2**53 else number


Real = Annotated[float, WrapValidator(_number)]
Figure = Annotated[float | None, WrapValidator(_number)]  # null: not finite


def maybe(**options: Any) -> Any:
    """A field that may be left out, but is not null where its type does not say so."""
    def without_default(said: dict[str, Any]) -> None:
        said.pop("default", None)

    return Field(default=None, json_schema_extra=without_default, **options)


def write_result(path: Any, kind: Any, values: Any) -> Any:
    """Writes a result as JSON, and returns it as `kind`, a Result or a strict `TypedDict`, as whoever reads the file
    has it. It is written before it is looked at: what hours have found is not to be lost for a key that its own
    definition does not know. Raises pydantic's ValidationError where it is none of its kind."""
    values = plain(values)
    write_json(path, values)
    return adapter(kind).validate_python(values)
