"""study.json: the runs of a study, the law of each backend, and whether the two laws are one."""

from typing import Any, Literal

from pydantic import Field

from twinscale.benchmarks.verdict import Made
from twinscale.common.files.kinds import Backend, Count, version
from twinscale.common.files.results import Figure, Real, Result, maybe

SCHEMA_VERSION = 1


class Ended(Result):
    """A run that has ended, as results.parquet has it in a row."""

    run: str
    backend: Backend
    recipe: str = Field(description="The recipe's hash, by which runs are paired.")
    N: Count = Field(description="Trained parameters.")
    N_without_embeddings: Count
    C: Real = Field(description="Exact operations of the training, causal.")
    C_6ND: Real
    D: Count = Field(description="Tokens trained on; of what is no text, examples.")
    unique_D: Count = Field(description="Of them those that were seen once at least.")
    epochs: Real
    schedule: str
    learning_rate: Real
    global_batch: Count
    seed: Count
    precision: str
    sparsity: Real
    bits: Count
    step: Count
    loss: Figure = Field(description="Held out, at the end.")
    training_loss: Figure = Field(description="What was logged last.")
    accuracy: Figure
    seconds: Figure = Field(description="Without start and compilation.")
    state: Literal["finished", "failed"]
    reason: str | None


class Side(Result):
    """A figure of one backend's law."""

    value: Figure
    interval: list[Figure] = Field(min_length=2, max_length=2)


class Both(Result):
    """A figure of both backends' laws."""

    figure: str
    jax: Side
    keras: Side
    difference: Figure = Field(description="The first backend's less the second's.")
    interval: list[Figure] = Field(description="Of the difference, by the same resamples of both.")
    within: bool = Field(description="Each value lies within the other's interval.")
    zero: bool = Field(description="0 lies within the interval of the difference.")
    known: bool = Field(description="False: the rows of a backend do not tell it, and it is not judged.")


class Parity(Result):
    """Whether the laws of two backends are one."""

    pairs: Count
    lacking: str = maybe(description="Why there is none.")
    largest: dict[str, Any] = maybe(description="The pair whose final losses lie furthest apart.")
    rows: list[Both] = maybe()
    agree: bool = maybe()
    sentence: str = maybe()


class Studied(Result):
    """study.json."""

    schema_version: version(SCHEMA_VERSION)
    sentence: str
    recipe: str
    backends: list[Backend]
    design: dict[str, Any] = Field(description="The study's file.")
    counts: dict[str, Count]
    flops: Real = Field(description="Exact operations of all finished runs.")
    seconds: Real
    runs: list[Ended]
    laws: dict[Backend, dict[str, Any]] = Field(description="As fit.json has a law, of each backend's finished runs.")
    lacking: dict[Backend, str] = Field(description="Why a backend has no law.")
    level: Real
    parity: Parity | None = Field(description="Null of one backend.")
    made: Made
    commands: list[str]
