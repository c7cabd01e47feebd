"""A trial: what it costs, what is its own failure, and that no run is trained twice."""

import math
import threading

import pytest

from twinscale.benchmarks.tuning import trials
from twinscale.common.errors import BadInput, CannotSave, MissingEnvironment, NonFinite, Stopped, TwinscaleError
from twinscale.common.recipe.file import load
from twinscale.common.training.run_metrics import Logger


@pytest.mark.parametrize("error, own", [
    (BadInput("train.accumulate"), True), (NonFinite("step 3"), True), (TwinscaleError("the trainer died"), True),
    (MissingEnvironment("memory has ended (x)"), True), (MissingEnvironment("jax is not installed"), False),
    (CannotSave("disk"), False), (Stopped("asked to"), False), (trials.UnknownMetric("recall"), False)])
def test_what_is_a_trials_own_failure(error, own):
    assert trials.is_failure(error) is own


def test_costs_are_of_the_whole_training_without_compilation():
    recipe = load("mlp-digits")
    found = trials.costs_of(recipe, {"seconds": {"start": 5.0, "compile": 7.0, "train": 2.0, "evaluate": 0.5}})
    weights = 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert found["seconds"] == 2.5 and found["parameters"] == weights
    twice = trials.costs_of(recipe.with_values(train={"steps": 600}))
    assert twice["flops"] == 2 * found["flops"] > 6 * 300 * 32 * 64 * 64 and twice["seconds"] is None


def test_evaluations_are_read_as_they_come(tmp_path):
    assert trials.evaluations(tmp_path, "loss") == []
    with Logger(tmp_path) as logger:
        logger.log(9, {"held_out/loss": 2.0})
        logger.log(14, {"train/loss": 1.0})
        logger.log(19, {"held_out/loss": math.nan})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 29, "held_o')
    (first, second) = trials.evaluations(tmp_path, "loss")
    assert first == (10, 2.0) and second[0] == 20 and math.isnan(second[1])


def test_two_trials_of_one_recipe_take_turns(tmp_path):
    runs, recipe, order = trials.Runs(tmp_path), load("mlp-digits"), []

    def second():
        with runs.held(recipe):
            order.append("second")

    with runs.held(recipe) as path:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"] and path.name == recipe.hash[:16]


def test_a_metric_that_no_run_has_is_named_with_those_that_there_are():
    with pytest.raises(trials.UnknownMetric, match='metric = "recall".*there are accuracy, loss'):
        trials.metric_of({"final": {"loss": 1.0, "accuracy": 0.5}}, "recall")


def test_time_left_is_by_the_pace_of_what_was_done():
    import time

    assert trials.left(0, 4, 0.0) is None
    assert trials.left(2, 6, time.monotonic() - 10) == pytest.approx(20, rel=0.01)


def test_the_pruner_is_asked_of_each_evaluation_once_however_often_it_is_told():
    optuna = pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    from twinscale.benchmarks.tuning.space import Search
    from twinscale.benchmarks.tuning.study import pruner_of

    study = optuna.create_study(pruner=pruner_of(Search(space={}, pruner="median")))
    for _ in range(4):
        trial = study.ask()
        assert not trials.pruning(trial, True)(10, 1.0)
        study.tell(trial, 1.0)
    trial = study.ask()
    assert trials.pruning(trial, True)(10, 9.0) and trials.pruning(trial, True)(10, 9.0)
    assert not trials.pruning(trial, False)(20, 99.0)
    assert study.trials[-1].intermediate_values == {10: 9.0}
