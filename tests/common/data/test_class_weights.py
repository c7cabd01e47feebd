"""Weights of classes: the formula of scikit-learn, names or numbers, training alone, and what is refused."""

import numpy as np
import pytest

from twinscale.common.data import held_out_batches, open_dataset, training_batches
from twinscale.common.data.class_weights import balanced, named
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

VALUES = {"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}, "train": {"steps": 3}}


def recipe(weights, **more):
    return Recipe.model_validate(VALUES | {"train": {"steps": 3, "class_weights": weights}} | more)


def test_balanced_classes_weigh_together_what_each_other_does():
    labels = np.array([[0, 0, 0], [2, 0, 2]])
    assert np.array_equal(balanced(labels, 4), [6 / (2 * 4), 1, 6 / (2 * 2), 1])  # n / (classes that are there, n_c)
    held = balanced(labels, 4)[labels]
    assert held[labels == 0].sum() == held[labels == 2].sum() and held.sum() == labels.size


def test_names_and_numbers_name_classes_and_others_are_refused_with_a_near_one():
    assert named({"cat": 2.0, "0": 3.0}, ("dog", "cat"), 2).tolist() == [3.0, 2.0]
    assert named({}, (), 3).tolist() == [1, 1, 1]
    with pytest.raises(BadInput, match=r'train.class_weights: "cta": no class of the data is called so.*cat'):
        named({"cta": 1.0}, ("dog", "cat"), 2)


def test_training_alone_is_weighed_and_the_sums_are_of_weights():
    plain, made = (open_dataset(recipe(weights)) for weights in ("none", {"3": 4.0}))
    (_, one, _), (_, other, _) = (next(training_batches(dataset, recipe("none"), 0, 1)) for dataset in (plain, made))
    assert (one["labels"] == 3).any() and other["weights"].dtype == np.float32
    assert np.array_equal(other["weights"], np.where(one["labels"] == 3, 4, 1))
    assert all(np.array_equal(one[name], other[name]) for name in one if name != "weights")
    assert all((batch["weights"] == 1).all() for batch in list(held_out_batches(made, 8))[:-1])
    assert len(made.train) == len(plain.train)
    total = sum(open_dataset(recipe("balanced")).train.take(np.arange(len(plain.train)))["weights"])
    assert abs(total / len(plain.train) - 1) < 1e-5


def test_the_recipe_refuses_what_has_no_classes_and_keeps_the_hashes_of_others():
    with pytest.raises(BadInput, match='"12": no class of the data is called so'):
        open_dataset(recipe({"12": 2.0}))
    for weights in ("balancd", {"1": 0.0}, {}, {"1": "a"}, 3):
        with pytest.raises(ValueError, match='class_weights=.*: expected "none", "balanced" or a table') as caught:
            recipe(weights)
        assert caught.value.error_count() == 1
    with pytest.raises(ValueError, match="whose labels are tokens"):
        recipe("balanced", data={}, model={"family": "decoder"})
    with pytest.raises(ValueError, match="of no classes"):
        recipe("balanced", objective={"name": "squared-error"})
    assert Recipe.model_validate(VALUES).hash == recipe("none").hash != recipe("balanced").hash
    assert recipe({"1": 2.0}).meaning != recipe({"1": 3.0}).meaning and hash(recipe({"1": 2.0}))
