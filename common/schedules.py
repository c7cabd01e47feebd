"""Schedules: one float64 table, a value for each optimizer update, fed to both backends. docs/adding.md says how to add
one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ConfigDict, Field

from twinscale.common.registry import Registry, load
from twinscale.common.section import Count, Fraction, Section, any_of

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

OWN = ("constant", "cosine", "linear", "wsd")
SCHEDULES = Registry("schedules", "schedule.kind", {name: f"twinscale.common.schedules:{name.upper()}" for name in OWN},
                     "twinscale.common.schedules:Schedule")


class ScheduleOptions(Section):
    """The learning rate of each optimizer update as a fraction of `optimizer.learning_rate`: what every schedule takes;
    its own options derive from it."""

    kind: str = "constant"
    warmup: Count = Field(0, description="updates of linear warm-up, the first one at 1/warmup")
    final: Fraction = Field(0.0, description="fraction of the peak at the last update")


def with_names(schema: dict[str, Any]) -> None:
    """Says in a JSON schema which schedules are our own."""
    schema["properties"]["kind"] |= any_of(SCHEDULES)
    del schema["properties"]["kind"]["type"]


class OwnSchedule(ScheduleOptions):
    """The learning rate of each optimizer update as a fraction of `optimizer.learning_rate`."""

    model_config = ConfigDict(title="Schedule", json_schema_extra=with_names)

    decay: Count = Field(0, description="wsd: updates of the closing linear decay")


@dataclass(frozen=True)
class Schedule:
    """A schedule. `s` is a recipe's section, one of `options`."""

    title: str  # as people write it
    # (s, steps) -> float64 (steps,): of each update, but for the warm-up, the share of the way from `final` (0) up to
    # the peak (1)
    shape: Callable
    options: type = OwnSchedule  # of ScheduleOptions
    moves: bool = True  # whether the rate is another one at the end, whatever the warm-up
    problem: Callable = lambda s: None  # (s) -> what is wrong with it, in words, or None
    tried: dict = field(default_factory=dict)  # what a trial of it sets


def described(options: ScheduleOptions) -> Schedule:
    """The Schedule that a recipe's section names."""
    return load(SCHEDULES, options.kind)


def learning_rates(recipe: "Recipe") -> np.ndarray:
    """The learning rate of every update: float64, shape (train.steps,).

    Update t (from 0) of a warm-up of w has (t + 1) / w of the peak. The decay starts at the peak right after the
    warm-up and reaches `schedule.final` at the last update; `wsd` (Hu et al. 2024, "MiniCPM") stays at the peak
    and decays linearly over the last `schedule.decay` updates.
    """
    s, steps = recipe.schedule, recipe.train.steps
    kind = described(s)
    shape = kind.shape(s, steps)
    factor = s.final + (1 - s.final) * shape if kind.moves else shape
    warm = np.minimum(1, (np.arange(steps, dtype=np.float64) + 1) / s.warmup) if s.warmup else 1.0
    return recipe.optimizer.learning_rate * factor * warm


def progress(start: int, steps: int, last: int = 0) -> np.ndarray:
    """How far each of `steps` updates is from `start` (0) to the last (1), within 0 and 1: float64 (steps,). `last`: 1
    where the update before `start` is the 0."""
    t = np.arange(steps, dtype=np.float64)
    return np.clip((t - start + last) / max(1, steps - 1 - start + last), 0, 1)


CONSTANT = Schedule("constant", lambda s, steps: np.ones(steps), moves=False)
COSINE = Schedule("cosine", lambda s, steps: (1 + np.cos(np.pi * progress(s.warmup, steps))) / 2)
LINEAR = Schedule("linear", lambda s, steps: 1 - progress(s.warmup, steps))
WSD = Schedule("wsd", lambda s, steps: 1 - progress(steps - s.decay, steps, 1), tried={"decay": 2},
               problem=lambda s: None if s.decay else
               'schedule.kind="wsd" needs schedule.decay, the updates of the closing decay')
