"""When a training ends early: by the value that is watched, in the way in which it is better."""

import math
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.meshes import prepared
from twinscale.common.compress.recipes import stage_recipe
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.stopping import (
    best_of,
    check_watched,
    end_of,
    is_over,
    measured_before,
    ranked,
    told,
    waited,
    watched,
    words,
)


def recipe(watch="loss", stop_after=2, family="mlp", **train):
    return Recipe.model_validate({
        "name": "x", "data": {"source": "digits" if family == "mlp" else "stdlib"}, "model": {"family": family},
        "train": {"watch": watch, "stop_after": stop_after, "eval_every": 5, **train}})


def test_less_loss_and_more_accuracy_are_better_and_the_first_of_equal_ones_is_best():
    values = {5: 0.5, 10: 0.4, 15: 0.4, 20: math.nan, 25: 0.6}
    assert best_of(recipe(), values) == 10 and best_of(recipe("accuracy"), values) == 25
    assert ranked(recipe(), values) == [10, 15, 5, 25] and best_of(recipe(), {5: math.nan}) is None
    assert waited(recipe(), values) == 3 and waited(recipe("accuracy"), values) == 0
    assert waited(recipe(), {5: math.nan, 10: math.inf}) == 2


def test_it_is_over_after_as_many_evaluations_without_a_better_one():
    values = {5: 0.5, 10: 0.4, 15: 0.4}
    assert not is_over(recipe(), values) and is_over(recipe(), values | {20: 0.41})
    assert not is_over(recipe(), values | {20: 0.39}) and not is_over(recipe(stop_after=0), values | {20: 0.41})
    assert end_of(recipe(), values | {20: 0.41, 25: 0.1}) == 20 and end_of(recipe(), values) is None
    assert end_of(recipe(steps=20), values | {20: 0.41}) is None  # its last step anyway
    found = told(recipe(), values | {20: 0.41})
    assert found == {"step": 20, "watch": "loss", "best": 0.4, "best_step": 10, "evaluations": 2}
    assert "ended early after step 20: loss was best after step 10 (0.4)" in words(found)


def test_the_counter_of_a_run_that_goes_on_is_in_its_log():
    lines = [{"step": 4, "held_out/loss": 0.5}, {"step": 7, "train/loss": 1.0}, {"step": 9, "held_out/loss": None},
             {"step": 14, "held_out/loss": 0.4}]
    found = measured_before(recipe(), lines, 10)
    assert found.keys() == {5, 10} and found[5] == 0.5 and math.isnan(found[10])


def test_a_value_that_is_not_measured_is_refused():
    for options, said in ((("entity_f1",), "no value that is measured so is known"),
                          (("perplexity",), "is not measured of such a model"), (("confusion/0/1",), "is known")):
        with pytest.raises(ValueError, match=said):
            recipe(*options)
    with pytest.raises(ValueError, match="train.eval_every=0 has none"):
        recipe(eval_every=0)
    assert recipe("perplexity", family="decoder").train.watch == "perplexity"
    made = recipe("recall/7", metrics=["report"])
    assert watched(made, {"recall/7": 0.5}) == 0.5
    check_watched(made, SimpleNamespace(classes=10, manifest={}))
    with pytest.raises(BadInput, match='train.watch="recall/7": evaluations have no such value: there are precision/a'):
        check_watched(made, SimpleNamespace(classes=2, manifest={"labels": ["a", "b"]}))


def test_when_a_training_ends_is_not_what_it_computes():
    assert recipe("accuracy").meaning == recipe("loss", 0).meaning and recipe("accuracy").hash != recipe().hash
    assert recipe("loss", 0).hash == Recipe.model_validate(
        recipe("loss", 0).model_dump(exclude={"train": {"watch", "stop_after"}})).hash


def test_what_evaluates_nothing_by_itself_does_not_stop_early_either(tmp_path):
    """A mesh, or a stage of a compression, has no evaluations to count."""
    made = recipe().with_values(compress={"stages": ({"kind": "quantize", "steps": 5},)})
    assert stage_recipe(made, 0).train.stop_after == 0 == stage_recipe(made, 0).train.eval_every
    assert prepared(recipe(), tmp_path).train.stop_after == 0
