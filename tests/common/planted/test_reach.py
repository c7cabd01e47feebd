"""How planted changes reach what both backends share, and that nothing of them stays."""

import sys
from types import ModuleType

import numpy as np

from twinscale.common import schedules
from twinscale.common.data import batches
from twinscale.common.planted.reach import changed_batches, changed_rates, mean_of_batches
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training import loop

HELD_OUT = [{"loss": 8.0, "correct": 1.0, "weight": 4.0}, {"loss": 6.0, "correct": 1.0, "weight": 1.0},
            {"loss": 0.0, "correct": 0.0, "weight": 0.0}]  # losses of 2 and 6, and a batch of padding alone


def test_a_batch_is_hashed_as_it_was_changed():
    batch = {"inputs": np.arange(4.0)}
    doubled = batches.digest({"inputs": 2 * batch["inputs"]})
    with changed_batches(lambda found: {"inputs": 2 * found["inputs"]}):
        assert batches.digest(batch) == doubled and batch["inputs"].tolist() == [0, 2, 4, 6]
    assert batches.digest(batch) == doubled  # as it is: changed no second time


def test_a_mean_of_batches_weighs_one_that_is_almost_empty_like_a_full_one(monkeypatch):
    def added(state, found):
        found = list(found)
        return {name: sum(sums[name] for sums in found) for name in HELD_OUT[0]}

    monkeypatch.setattr(loop, "held_out_sums", lambda evaluate: (evaluate(None, HELD_OUT), None))

    def evaluated():
        return loop.finish(*loop.held_out_sums(added))

    right = evaluated()
    with mean_of_batches("loss"):
        assert evaluated() == right | {"loss": 4.0}
    assert evaluated() == right and right["loss"] == 14 / 5


def test_rates_change_wherever_they_were_taken_to_and_under_their_name_alone(monkeypatch):
    took, other = ModuleType("twinscale.took"), ModuleType("twinscale.other")
    took.learning_rates, other.learning_rates = schedules.learning_rates, len
    for module in (took, other):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    recipe = Recipe.model_validate({"name": "x", "model": {"family": "decoder"}})
    rates = schedules.learning_rates(recipe)
    with changed_rates(lambda table: 2 * table):
        assert all((module.learning_rates(recipe) == 2 * rates).all() for module in (schedules, took))
        assert other.learning_rates is len
    assert (took.learning_rates(recipe) == rates).all() and took.learning_rates is schedules.learning_rates
