"""Objectives by their names."""

import numpy as np
import pytest

from twinscale.common.objectives import CROSS_ENTROPY, OBJECTIVES, described, judged
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


@pytest.mark.parametrize("name", ["probe", "squared-error", "sigmoid"])
def test_a_part_of_a_row_is_judged_as_it_is_in_the_whole_unless_an_objective_says_otherwise(name):
    logits, labels = (np.random.default_rng(0).standard_normal((2, 6, 3)) for _ in range(2))
    recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, objective={"name": name})
    found = described(recipe)
    whole = found.judged(np, recipe, logits, labels)
    parts = [found.judged(np, recipe, logits[:, i::2], labels[:, i::2]) for i in range(2)]
    assert np.array_equal(np.stack(parts, -1).reshape(whole.shape), whole) == (not found.whole)


def test_an_evaluation_adds_up_its_objective_and_its_metrics():
    rng = np.random.default_rng(0)
    recipe = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp"}, train={"metrics": ["top-3"]})
    logits, labels = rng.standard_normal((4, 10)), rng.integers(0, 10, 4)
    sums, rows = judged(np, recipe, logits, labels, np.ones(4))
    assert sums["weight"] == 4 and any(key.startswith("top-3.") for key in sums)
    assert rows["best"].tolist() == logits.argmax(-1).tolist() and np.isclose(rows["loss"].sum(), sums["loss"])
    assert judged(np, recipe.with_values(train={"metrics": []}), logits, labels, np.ones(4))[1] == {}
