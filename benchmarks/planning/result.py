"""What `twinscale plan` and `twinscale plan-serving` leave as JSON."""

from typing import Any

from pydantic import Field

from twinscale.benchmarks.verdict import Made
from twinscale.common.files.kinds import Count, version
from twinscale.common.files.results import Figure, Real, Result, maybe

SCHEMA_VERSION = 1


class Slice(Result):
    """A slice of a plan. Its figures are {"ceiling": at the ceiling's MFU, "inside": [fewest, most], or null}."""

    topology: str
    slices: Count
    chips: Count
    cores: Count
    peak_flops: Real
    mfu: dict[str, Any]
    mfu_convention: str
    days: dict[str, Any] = maybe()
    chip_hours: dict[str, Any] = maybe()
    core_hours: dict[str, Any] = maybe()
    price: dict[str, Any] | None = maybe()
    cost: dict[str, Any] = maybe()
    deadline: dict[str, Any] = maybe()


class Plan(Result):
    """plan.json: chips, days and money of a training."""

    schema_version: version(SCHEMA_VERSION)
    recipe: str | None
    work: dict[str, Any]
    law: str | None
    prices: dict[str, str] | None
    rows: list[Slice]


class Candidate(Result):
    """What may be served, at its best size."""

    bits: Real = Field(description="Of a weight.")
    sparsity: Real = Field(description="The share of weights that are 0.")
    distilled: bool
    parameters: Real = Field(description="Zeros among them.")
    tokens: Real = Field(description="That it is trained on.")
    loss: Figure
    interval: list[Figure] | None = Field(description="Of the law; null: it has no resamples.")
    loss_of_a_run: list[Figure] | None = Field(description="Of one run.")
    memory: Real = Field(description="Bytes of its weights.")
    flops_per_token: Real
    worth: Real = Field(description="The dense weights of 16 bits that it is worth.")
    limited_by: str
    best_of_resamples: Figure = Field(description="The share by which it is the best; null: there are none.")


class Serving(Result):
    """serving.json: the best sizes, bits and sparsities of a model for what its serving may take."""

    schema_version: version(SCHEMA_VERSION)
    law: str = Field(description="Whose law of size and data it is.")
    level: Real
    resamples: Count
    wanted: dict[str, Any]
    rows: list[Candidate] = Field(description="The best first.")
    rests_on: list[str]
    warnings: list[str]
    sentence: str
    made: Made
    commands: list[str]
