"""The deviations that are known and listed, with a reason: which rows they excuse, and which are stale."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from twinscale.common.files.access import read_toml
from twinscale.common.files.kinds import STRICT, Backend

KNOWN = Path(__file__).with_name("known_deviations.toml")


class Deviation(TypedDict):
    """Of KNOWN."""

    __pydantic_config__ = STRICT

    operation: str
    backend: Backend
    dtype: str
    device: str
    how: NotRequired[list[str]]
    cases: list[str]
    seen: Annotated[float, Field(gt=0, allow_inf_nan=True)]  # infinite where a backend is not finite
    reason: str
    link: str


class Known(TypedDict):
    """KNOWN."""

    __pydantic_config__ = STRICT

    deviation: list[Deviation]


@functools.cache
def known_deviations() -> list:
    """The listed deviations: [{operation, backend, dtype, device, cases, seen (eps), reason, link}], in some `how`."""
    return read_toml(KNOWN, Known)["deviation"]


def concerns(deviation: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row is of the operation, backend, dtype, device and cases of a listed deviation."""
    same = all(deviation[key] == row[key] for key in ("operation", "backend", "dtype", "device"))
    return same and row["case"] in deviation["cases"] and row["how"] in deviation.get("how", [row["how"]])


def excuses(deviation: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether a row is above its bound as a listed deviation says it is: by no more than twice what was seen."""
    return not row["agrees"] and concerns(deviation, row) and row["error"] <= 2 * deviation["seen"]


def stale_deviations(rows: Sequence[Mapping[str, Any]]) -> list:
    """The listed deviations that rows were measured for but none shows any more."""
    return [d for d in known_deviations() if any(concerns(d, row) for row in rows)
            and not any(excuses(d, row) for row in rows)]
