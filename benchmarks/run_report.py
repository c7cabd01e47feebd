"""report.json: what one run is, how far it came, and what it has measured."""

from typing import Any, Literal

from pydantic import Field

from twinscale.benchmarks.verdict import Described, Made
from twinscale.common.files.kinds import Backend, Count, Metrics, version
from twinscale.common.files.results import Figure, Result, maybe
from twinscale.common.training.run import Performance

SCHEMA_VERSION = 1


class Points(Result):
    """A value as a training went, thinned out evenly where there are very many."""

    steps: list[Count] = Field(description="Updates until then.")
    values: list[Figure]


class RunReport(Result):
    """report.json: one run, by what it has left."""

    schema_version: version(SCHEMA_VERSION)
    sentence: str
    run: str
    backend: Backend
    state: Literal["running", "finished", "failed", "interrupted", "stopped"]
    error: str | None = Field(description="Of a run that failed.")
    step: Count = Field(description="Updates that were logged or saved.")
    steps: Count = Field(description="Updates of the whole recipe.")
    evaluated: Count | None = Field(description="Updates before the last evaluation; null where there was none.")
    held_out: Metrics = Field(description="What the last evaluation says.")
    curves: dict[str, dict[Literal["train", "held_out"], Points]] = Field(
        description="{metric: of training, of evaluations}; the loss, and what sums up an evaluation.")
    task: dict[str, Any] | None = maybe(description="As in verdict.json, of one side, and `lacking`, why its worst "
                                                    "examples are not there; null where no metric is of classes.")
    failed: dict[str, str] = maybe(description="Parts of the page that could not be made, with the reason.")
    recipe: Described
    data: dict[str, Any]
    performance: Performance | None = Field(description="Null until a training ends or is asked to.")
    seconds: Figure = Field(description="Of training, without start, compilation and evaluations.")
    devices: dict[Backend, list[str]]
    versions: dict[Backend, dict[str, str | None]]
    made: Made
    commands: list[str] = Field(description="What makes it once more.")
