"""What `twinscale fit` and `twinscale predict-loss` leave as JSON."""

from typing import Any

from pydantic import Field

from twinscale.benchmarks.verdict import Made
from twinscale.common.files.kinds import Count, version
from twinscale.common.files.results import Figure, Real, Result

SCHEMA_VERSION = 1


class Known(Result):
    """A parameter of a law, with its deviation and interval by a bootstrap of runs, and an exponent's by its
    profile."""

    name: str
    value: Figure
    known: bool = Field(description="False: the rows do not tell it, and warnings say why.")
    deviation: Figure
    interval: list[Figure] | None
    profile: list[Figure] | None


class FittedLaw(Result):
    """fit.json: a law of a table of results."""

    schema_version: version(SCHEMA_VERSION)
    results: dict[str, Any]
    law: dict[str, str]
    objective: dict[str, Any]
    certificate: dict[str, Any]
    parameters: list[Known]
    approaches: list[dict[str, Any]]
    optima: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    warnings: list[str]
    disagreement: str
    sentence: str
    level: Real
    made: Made
    commands: list[str]


class Point(Result):
    """What a law says of runs at one point."""

    point: dict[str, Real] = Field(description="The law's columns, C = 6 N D among them.")
    value: Figure
    confidence: list[Figure] | None = Field(description="The law's own interval; null: it has no resamples.")
    prediction: list[Figure] | None = Field(description="That of one run.")
    beyond: dict[str, Real] = Field(description="Times beyond the rows that were fitted, along each axis.")
    warnings: list[str]


class Prediction(Result):
    """prediction.json: what a law says of runs that nobody has trained."""

    schema_version: version(SCHEMA_VERSION)
    law: str
    equation: str
    origin: str = Field(description="Whose law it is.")
    predicts: str
    level: Real
    resamples: Count
    rows: list[Point]
    warnings: list[str]
    sentence: str
    made: Made
    commands: list[str]
