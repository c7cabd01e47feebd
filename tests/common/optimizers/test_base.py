"""What references of optimizers are made of."""

import numpy as np
import pytest

from twinscale.common.optimizers.base import OPTIMIZERS, bias_correction, described, mixed
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import load


def test_a_mean_that_moves_has_the_sizes_of_its_terms_for_a_scale():
    found, scale = mixed(np.array([2.0, -2.0]), 0.75, np.array([4.0, 4.0]))
    assert found.tolist() == [2.5, -0.5] and scale.tolist() == [3.0, 3.0]


def test_a_bias_correction_is_that_of_the_paper_and_the_better_conditioned_the_later():
    assert bias_correction(0.9, 1)[0] == pytest.approx(0.1) and bias_correction(0.9, 3)[0] == pytest.approx(1 - 0.729)
    conditions = [bias_correction(0.9, t)[1] for t in (1, 10, 100)]
    assert conditions == sorted(conditions, reverse=True) and conditions[-1] < 1e-2


def test_every_own_optimizer_is_found_by_its_name_and_has_slots_and_semantics():
    for name in OPTIMIZERS.builtin:
        own = {"keras": "theirs:keras", "jax": "theirs:jax"} if name == "pair" else {}
        recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, optimizer={"name": name, **own})
        found = described(recipe.optimizer)
        assert found is load(OPTIMIZERS, name) and "w <- w" in found.semantics and "m" in found.slots(recipe.optimizer)
