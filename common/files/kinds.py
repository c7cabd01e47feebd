"""The types that files which are read back are made of; a file's own kind is a `TypedDict` of them with `STRICT`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from twinscale.common.backends import BACKENDS

# Other keys are kept, as a later version may write them; nothing is converted, and NaN and infinity are no numbers.
STRICT = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=0, le=2**53)]  # whole, and exact in every reader of JSON
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Positive, Field(le=1)]
Seconds = Annotated[Number, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Backend = Literal[tuple(BACKENDS)]
Metrics = dict[str, Number | None]  # null: not finite


def _one_of_each(said):
    if len(said["mean"]) != len(said["deviation"]):
        raise ValueError("mean and deviation: one of each for each channel is wanted")
    return said


class _Channels(TypedDict):
    __pydantic_config__ = STRICT

    mean: Annotated[list[Number], Field(min_length=1)]
    deviation: Annotated[list[Positive], Field(min_length=1)]


Standardised = Annotated[_Channels, AfterValidator(_one_of_each)]  # what images are standardised by


def version(number: int) -> Any:
    """The type of a `schema_version` that this project reads; true is none."""
    def same(found):
        if found != number:
            raise ValueError(f"another version's file: this one reads schema_version {number}")
        return found

    return Annotated[int, AfterValidator(same)]
