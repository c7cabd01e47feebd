"""Objectives by their names."""

import pytest

from twinscale.common.objectives import CROSS_ENTROPY, OBJECTIVES, described
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import load


def test_a_recipe_minimises_cross_entropy_unless_it_says_otherwise():
    assert described(Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"})) is CROSS_ENTROPY
    with pytest.raises(ValueError, match="hinge"):
        Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, objective={"name": "hinge"})


def test_own_objectives_come_through_the_door_of_all_and_say_what_they_are():
    for name in OBJECTIVES.builtin:
        found = load(OBJECTIVES, name)
        assert found.title and found.semantics and {"label_smoothing", "z_loss"} >= set(found.terms)
