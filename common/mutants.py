"""Semantic errors and harmless changes to plant in a trainer's process, to show what a comparison catches and what it
lets pass. No recipe can reach them.

Each is one patch point, held open while it is planted. Here stand those of what both backends share; a room's
`mutants.py` adds its own.
"""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

import common.bits
from common import loop, parameters, schedules
from common.data import batches, order


@dataclass(frozen=True)
class Change:
    """One thing to plant: a context manager, and for a mutant what a comparison is to say of it."""

    plant: Callable
    recipe: str  # of `benchmarks.audit.RECIPES`, the one that it shows in
    operation: str = ""  # the class of operation to be named; "" for a change that is harmless
    where: str = "*"  # pattern of the place to be named

    @property
    def meaning(self):
        """What it changes, in words."""
        return " ".join(self.plant.__doc__.split())


def registry():
    """(changes by name, a decorator that adds a generator function to them)."""
    changes = {}

    def change(recipe, operation="", where="*"):
        def add(function):
            changes[function.__name__] = Change(contextmanager(function), recipe, operation, where)
            return function

        return add

    return changes, change


CHANGES, change = registry()


@change("layer", "data")
def shuffled_epoch():
    """Every epoch repeats the order of the first."""
    examples = order.examples

    def repeated(row, step, global_batch, n, seed):
        epoch, place = np.divmod(np.asarray(step, np.int64) * global_batch + np.asarray(row, np.int64), n)
        found, later = examples(row, step, global_batch, n, seed), epoch > 0
        found[later] = order.permutation(place[later], n, seed, 0)
        return found

    with patch.object(batches, "examples", repeated):
        yield


@change("layer", "data")
def repeated_rows():
    """Half of a batch's rows are the other half once more, as if two hosts read the same rows."""
    rows = batches.rows

    def halved(step, global_batch, *rest):
        found = rows(step, global_batch, *rest)
        return np.concatenate([found[::2], found[::2]])[:len(found)]

    with patch.object(batches, "rows", halved):
        yield


@change("layer", "data")
def shifted_labels():
    """Labels are a token late: a position learns to repeat itself."""
    with changed_batches(lambda batch: batch | {"labels": batch["inputs"].astype(batch["labels"].dtype)}):
        yield


@change("image", "data")
def other_augmentation():
    """Images are shifted by bits of the next step."""
    augment = batches.augment
    with patch.object(batches, "augment", lambda x, kinds, seed, step, row: augment(x, kinds, seed, step + 1, row)):
        yield


@change("layer", "schedule")
def late_schedule():
    """The learning rate is that of the update before."""
    with changed_rates(lambda table: np.concatenate([table[:1], table[:-1]])):
        yield


@change("layer", "schedule")
def early_schedule():
    """The learning rate is that of the update after."""
    with changed_rates(lambda table: np.concatenate([table[1:], table[-1:]])):
        yield


@change("layer", "schedule")
def warm_up_from_zero():
    """Warm-up starts at zero in place of its first fraction."""
    with changed_rates(lambda table: np.concatenate([[0.0], table[:-1]])):
        yield


@change("layer", "initial value", "*.attention.output.kernel")
def missing_residual_scale():
    """Residual outputs do not start smaller by sqrt(2 x layers)."""
    def larger(name, parameter, *rest):
        value = parameters_initial(name, parameter, *rest)
        return value * 2 if name.endswith(("attention.output.kernel", "feedforward.down.kernel")) else value

    parameters_initial = parameters.initial_value
    with everywhere("initial_value", parameters_initial, larger):
        yield


@change("layer", "decay")
def decayed_biases():
    """Weight decay applies to every tensor."""
    with everywhere("is_decayed", parameters.is_decayed, lambda name: True):
        yield


@change("layer", "random bits")
def other_dropout():
    """Dropout keeps an element with a probability that is off by one in a thousand."""
    keep_below = common.bits.keep_below
    with everywhere("keep_below", keep_below, lambda rate: keep_below(rate) - 8389):
        yield


@change("layer", "evaluation")
def dropped_remainder():
    """Evaluation leaves out the last batch."""
    held_out_batches = batches.held_out_batches
    with patch.object(loop, "held_out_batches", lambda *of: list(held_out_batches(*of))[:-1]):
        yield


@change("layer", "evaluation")
def perplexity_of_batches():
    """Perplexity is the mean of the batches' perplexities."""
    sums_of, finish, seen = loop.held_out_sums, loop.finish, []

    def noted(evaluate, *rest):
        def one_by_one(state, batches):
            seen[:] = [evaluate(state, [batch]) for batch in batches]
            return {name: sum(sums[name] for sums in seen) for name in seen[0]}

        return sums_of(one_by_one, *rest)

    def averaged(sums, label_bytes=None):
        found = finish(sums, label_bytes)
        each = [finish(part, 1)["perplexity"] for part in seen if part["weight"]]
        return {name: float(np.mean(each)) if name == "perplexity" else x for name, x in found.items()}

    with patch.object(loop, "held_out_sums", noted), patch.object(loop, "finish", averaged):
        yield


@change("layer")
def reversed_rows():
    """The rows of each micro-batch come in the reverse order."""
    training_batches = batches.training_batches

    def backwards(dataset, recipe, *rest, **options):
        parts = recipe.train.accumulate
        for step, batch, digest in training_batches(dataset, recipe, *rest, **options):
            turned = {name: x.reshape(parts, -1, *x.shape[1:])[:, ::-1].reshape(x.shape) for name, x in batch.items()}
            yield step, turned, digest

    with patch.object(loop, "training_batches", backwards):
        yield


@change("layer")
def reversed_micro_batches():
    """The rows of a whole batch come in the reverse order, and so in other micro-batches."""
    training_batches = batches.training_batches

    def backwards(*of, **options):
        for step, batch, digest in training_batches(*of, **options):
            yield step, {name: x[::-1] for name, x in batch.items()}, digest

    with patch.object(loop, "training_batches", backwards):
        yield


@contextmanager
def changed_batches(function):
    """Batches as a function of the batch makes them, before they are hashed."""
    digest = batches.digest

    def changed(batch):
        batch.update(function(batch))
        return digest(batch)

    with patch.object(batches, "digest", changed):
        yield


@contextmanager
def changed_rates(function):
    """Learning rates as a function of their table makes them."""
    rates = schedules.learning_rates
    with everywhere("learning_rates", rates, lambda recipe: function(rates(recipe))):
        yield


@contextmanager
def everywhere(name, old, new):
    """`new` in place of `old` in every module of the project that has taken it under its name."""
    import sys

    holders = [module for key, module in sys.modules.items()
               if key.split(".")[0] in ("common", "tfscale", "jaxscale") and getattr(module, name, None) is old]
    with ExitStack() as patches:
        for module in holders:
            patches.enter_context(patch.object(module, name, new))
        yield
