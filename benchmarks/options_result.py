"""What `preflight --options` leaves as JSON, as it makes it and as it is read back."""

from typing import Any, Literal

from pydantic import Field

from twinscale.benchmarks.verdict import Made
from twinscale.common.files.kinds import Count, version
from twinscale.common.files.results import Result

SCHEMA_VERSION = 1


class Tried(Result):
    """An option of XLA's: the step without it and with it."""

    option: str
    purpose: str
    source: str
    set: bool = Field(description="Whether we set it.")
    tried: dict[str, Any] = Field(description="The options of the compile that is held to the recipe as we set it.")
    state: Literal["compiled", "does not fit", "fails", "refused", "unknown", "left out"]
    said: str | None = Field(description="Of one without figures: why.")
    off: dict[str, Any] | None
    on: dict[str, Any] | None
    effect: Literal["helps", "costs", "both", "nothing"] | None = Field(
        description="On memory, on bytes sent and on those that are waited for.")


class OptionsTable(Result):
    """A topology's options."""

    topology: str
    slices: Count
    chip: str
    xla_flags: dict[str, Any]
    base: dict[str, Any] = Field(description="The figures of the recipe as we set it.")
    options: list[Tried]


class Options(Result):
    """options.json: what each of XLA's options makes of a recipe's step."""

    schema_version: version(SCHEMA_VERSION)
    recipe: dict[str, Any]
    hash: str
    libtpu: str | None
    versions: dict[str, str | None]
    topologies: list[OptionsTable]
    made: Made
    commands: list[str]
