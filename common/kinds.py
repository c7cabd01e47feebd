"""The types that files which are read back are made of; a file's own kind is a `TypedDict` of them with `STRICT`."""

from typing import Annotated

from pydantic import ConfigDict, Field

# Other keys are kept, as a later version may write them; nothing is converted, and NaN and infinity are no numbers.
STRICT = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=0, le=2**53)]  # whole, and exact in every reader of JSON
Number = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
