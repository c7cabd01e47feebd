"""How planted changes reach what both backends share: batches, evaluations, checkpoints and learning rates."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from twinscale.common import schedules
from twinscale.common.data import batches
from twinscale.common.training import checkpoints, evaluating, loop
from twinscale.common.training.room import Tensors

Batch = dict[str, np.ndarray]  # NumPy arrays (rows, ...), by name


@contextmanager
def changed_batches(function: Callable[[Batch], Batch]) -> Iterator[None]:
    """Batches as a function of the batch makes them, before they are hashed."""
    digest = batches.digest

    def changed(batch):
        batch.update(function(batch))
        return digest(batch)

    with patch.object(batches, "digest", changed):
        yield


@contextmanager
def changed_held_out(function: Callable[[Batch], Batch]) -> Iterator[None]:
    """Held-out batches with what a function of each makes."""
    held_out_batches = batches.held_out_batches
    with patch.object(evaluating, "held_out_batches", lambda *of: (
            batch | function(batch) for batch in held_out_batches(*of))):
        yield


@contextmanager
def mean_of_batches(metric: str) -> Iterator[None]:
    """One of an evaluation's metrics as the mean of those of its batches."""
    sums_of, finish, seen = loop.held_out_sums, loop.finish, []

    def noted(evaluate, *rest):
        def one_by_one(state, batches):
            seen[:] = [evaluate(state, [batch]) for batch in batches]
            return {name: sum(sums[name] for sums in seen) for name in seen[0]}

        return sums_of(one_by_one, *rest)

    def averaged(sums, label_bytes=None):
        each = [finish(part, 1)[metric] for part in seen if part["weight"]]
        return finish(sums, label_bytes) | {metric: float(np.mean(each))}

    with patch.object(loop, "held_out_sums", noted), patch.object(loop, "finish", averaged):
        yield


@contextmanager
def changed_checkpoints(function: Callable[[str, np.ndarray, Tensors], np.ndarray]) -> Iterator[None]:
    """What a checkpoint gives back as a function of each tensor's name, the tensor and all of them makes it."""
    loaded = checkpoints.Checkpoints.loaded

    def changed(self, step, state):
        state, problem = loaded(self, step, state)
        if state is None:
            return state, problem
        tensors = self.room.state_tensors(state)
        given = {name: function(name, x, tensors) for name, x in tensors.items()}
        return self.room.with_tensors(self.recipe, state, self.devices, given, step), problem

    with patch.object(checkpoints.Checkpoints, "loaded", changed):
        yield


@contextmanager
def changed_rates(function: Callable[[np.ndarray], np.ndarray]) -> Iterator[None]:
    """Learning rates as a function of their table makes them."""
    rates = schedules.learning_rates
    with everywhere("learning_rates", rates, lambda recipe: function(rates(recipe))):
        yield


@contextmanager
def everywhere(name: str, old: Callable[..., Any], new: Callable[..., Any]) -> Iterator[None]:
    """`new` in place of `old` in every module of the project that has taken it under its name."""
    import sys

    holders = [module for key, module in sys.modules.items()
               if key.startswith("twinscale.") and getattr(module, name, None) is old]
    with ExitStack() as patches:
        for module in holders:
            patches.enter_context(patch.object(module, name, new))
        yield
