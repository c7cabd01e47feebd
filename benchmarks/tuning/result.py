"""tune.json: what a search has tried and found."""

from typing import Any, Literal

from pydantic import Field

from twinscale.benchmarks.verdict import Described, Made
from twinscale.common.files.kinds import Backend, Count, version
from twinscale.common.files.results import Figure, Real, Result

SCHEMA_VERSION = 1


class Evaluation(Result):
    """The metric after so many updates."""

    step: Count
    value: Figure


class Trial(Result):
    """One recipe of the space, and what came of it."""

    number: Count
    state: Literal["complete", "pruned", "failed", "running", "waiting"]
    params: dict[str, Any] = Field(description="{key of the recipe: value}.")
    metric: Figure = Field(description="At the end of the training; null where it did not get there.")
    seconds: Figure = Field(description="Of the training, without start and compilation.")
    flops: Figure = Field(description="Operations of the whole training, causal.")
    parameters: Figure
    reason: str | None = Field(description="Why it failed, or was given up.")
    hash: str | None = Field(description="Of the recipe; null where there is none, as it was refused.")
    run: str | None = Field(description="Its run's directory, as seen from that of the search.")
    evaluations: list[Evaluation]


class Tuning(Result):
    """tune.json: the trials of a search, the best of them, and what the metric depends on."""

    schema_version: version(SCHEMA_VERSION)
    sentence: str
    backend: Backend
    metric: str
    direction: Literal["minimize", "maximize"]
    cost: str = Field(description="What the front weighs the metric against.")
    searched: bool = Field(description="Whether the cost was an objective of the search.")
    sampler: str
    pruner: str
    seed: Count
    study: str = Field(description="Its name in Optuna's database.")
    space: list[dict[str, Any]]
    trials: list[Trial]
    best: int | None
    best_value: Figure
    front: list[Count] = Field(description="Numbers of the trials that no other beats in metric and cost, the cheapest "
                                           "first.")
    importance: dict[str, Real] = Field(description="{key: share of what the metric varies by}; {} of too few trials.")
    recipe: Described | None = Field(description="The best trial's, as best.toml has it.")
    commands: list[str]
    made: Made
