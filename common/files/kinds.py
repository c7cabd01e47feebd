"""The types that files which are read back are made of; a file's own kind is a `TypedDict` of them with `STRICT`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

# Other keys are kept, as a later version may write them; nothing is converted, and NaN and infinity are no numbers.
STRICT = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=0, le=2**53)]  # whole, and exact in every reader of JSON
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Positive, Field(le=1)]
Seconds = Annotated[Number, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Backend = Literal["keras", "jax"]
Metrics = dict[str, Number | None]  # null: not finite


def version(number: int) -> Any:
    """The type of a `schema_version` that this project reads; true is none."""
    def same(found):
        if found != number:
            raise ValueError(f"another version's file: this one reads schema_version {number}")
        return found

    return Annotated[int, AfterValidator(same)]
