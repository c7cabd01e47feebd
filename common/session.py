"""A recipe made ready on a backend: what is compiled once a process and used by every call on that recipe."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from twinscale.common.data import Dataset, open_dataset

KEPT = 3  # recipes whose compiled functions a process keeps: one in every precision
SESSIONS = {}


@dataclass(frozen=True)
class Room:
    """What a backend gives: its functions of these names."""

    backend: str  # "keras" or "jax"
    numerics: Callable  # (recipe) -> a context in which the recipe's precision holds
    open_devices: Callable  # (recipe) -> devices
    new_state: Callable  # (recipe, dataset, devices, dither, old) -> state
    make_step: Callable  # (recipe, state, devices) -> (state, number, batch) -> (state, metrics)
    make_evaluate: Callable  # (recipe, state, devices) -> (state, batches) -> summed statistics
    make_step_tensors: Callable  # (recipe, state, devices) -> (state, number, batch) -> {"logits", "gradients/NAME"...}
    make_sketch: Callable  # (recipe, state, devices) -> (state) -> {"weights/NAME", "m/NAME", ...: sketch}
    make_step_taps: Callable  # (recipe, dataset, state, devices) -> (state, number, batch, teacher) -> {"loss/loss"...}
    state_tensors: Callable  # (state) -> {"weights/NAME", "m/NAME", ...: array}
    shared_tensors: Callable  # (recipe) -> {what: array} that the backends must share bit for bit
    clip_gradients: Callable  # (recipe, {name: array}) -> {name: array}
    apply_gradients: Callable  # (recipe, state, devices, updates) -> iterator of the state after each of `updates`
    with_tensors: Callable  # (recipe, state, devices, {as of state_tensors}, step) -> state
    Store: Callable  # (path, state, devices) -> .write .wait .read .files .delete .close: see `common/checkpoints.py`
    agree: Callable  # (devices, integers (n,)) -> those of every host (hosts, n); hosts wait for each other
    is_lost: Callable  # (error) -> whether it says that another host is gone
    compressing: Any = None  # the Room of compression's stages: the same functions of a stage's recipe
    extremes: Callable = None  # (recipe, dataset, devices, {name: array}, batches) -> {place: (min, max)} of a model
    make_masks: Callable = None  # (stage, update, {name: array}) -> {name: mask}, as this backend makes them
    fake_quantise: Callable = None  # (array, min, max, narrow) -> array, as this backend does it


@dataclass(frozen=True)
class Session:
    """A recipe's data, devices, first state and functions; the functions compile when they are first called."""

    dataset: Dataset
    devices: Any
    state: Any
    step: Callable
    evaluate: Callable
    step_tensors: Callable
    sketch: Callable
    step_taps: Callable


def open_session(room, recipe, dither=0.0, dataset=None):
    """A session whose state is that before the first step, on an open `dataset` or on that of the recipe. Call it where
    `room.numerics(recipe)` holds.

    An earlier session of the recipe on the same data gives its compiled functions, and its state is gone.
    """
    old = SESSIONS.pop((room, recipe), None)
    if old and (dataset is None or dataset.manifest == old.dataset.manifest):
        session = replace(old, state=room.new_state(recipe, old.dataset, old.devices, dither, old.state))
    else:
        dataset, devices = dataset or open_dataset(recipe), room.open_devices(recipe)
        state = room.new_state(recipe, dataset, devices, dither)
        session = Session(dataset, devices, state, *(make(recipe, state, devices) for make in (
            room.make_step, room.make_evaluate, room.make_step_tensors, room.make_sketch)),
            room.make_step_taps(recipe, dataset, state, devices))
    SESSIONS[room, recipe] = session
    while len(SESSIONS) > KEPT:
        del SESSIONS[next(iter(SESSIONS))]
    return session
