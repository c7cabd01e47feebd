"""A recipe made ready on a backend: what is compiled once a process and used by every call on that recipe."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from twinscale.common.data import Dataset, open_dataset
from twinscale.common.families.adapters import check_adapters, tree_of
from twinscale.common.optimizers.factors import check_factors
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.room import Devices, Room, Step, StepTaps
from twinscale.common.training.stopping import check_watched

KEPT = 3  # recipes whose compiled functions a process keeps: one in every precision
SESSIONS: dict[tuple[Room, Recipe], "Session"] = {}


@dataclass(frozen=True)
class Session:
    """A recipe's data, devices, first state and functions; the functions compile when they are first called."""

    dataset: Dataset
    devices: Devices
    state: Any
    step: Step
    evaluate: Callable
    step_tensors: Callable
    sketch: Callable
    step_taps: StepTaps


def open_session(room: Room, recipe: Recipe, dither: float = 0.0, dataset: Dataset | None = None) -> Session:
    """A session whose state is that before the first step, on an open `dataset` or on that of the recipe. Call it where
    `room.numerics(recipe)` holds.

    An earlier session of the recipe on the same data gives its compiled functions, and its state is gone.
    """
    old = SESSIONS.pop((room, recipe), None)
    if old and (dataset is None or dataset.manifest == old.dataset.manifest):
        session = replace(old, state=room.new_state(recipe, old.dataset, old.devices, dither, old.state))
    else:
        dataset, devices = dataset or open_dataset(recipe), room.open_devices(recipe)
        check_tensors(recipe, dataset)
        state = room.new_state(recipe, dataset, devices, dither)
        session = Session(
            dataset, devices, state, room.make_step(recipe, state, devices), room.make_evaluate(recipe, state, devices),
            room.make_step_tensors(recipe, state, devices), room.make_sketch(recipe, state, devices),
            room.make_step_taps(recipe, dataset, state, devices))
    SESSIONS[room, recipe] = session
    while len(SESSIONS) > KEPT:
        del SESSIONS[next(iter(SESSIONS))]
    return session


def check_tensors(recipe: Recipe, dataset: Dataset) -> None:
    """Raises BadInput where a recipe names tensors that its model has not, or watches what evaluations have not."""
    tree = tree_of(recipe, dataset.classes, dataset.example_shape)
    check_adapters(recipe, tree)
    check_factors(recipe, tree)
    check_watched(recipe, dataset)
