"""A search: exactly as many trials as were asked for, whatever came between."""

import json
from dataclasses import replace

import pytest

from tests.benchmarks.tuning.conftest import SPACE
from twinscale.benchmarks.tuning import tune
from twinscale.common.errors import BadInput, CannotSave
from twinscale.common.recipe.file import load
from twinscale.common.training.run import read_run


def rows(found):
    return [(trial.number, trial.state, trial.params, trial.metric) for trial in found.trials]


def test_a_search_that_is_killed_goes_on_as_it_would_have(asked, fake):
    whole = tune.tuned(asked("whole", trials=6))
    assert len(whole.trials) == 6 and {"complete", "failed"} == {trial.state for trial in whole.trials}
    fake.told, fake.lives = [], 1
    with pytest.raises(KeyboardInterrupt):
        tune.tuned(asked("killed", trials=6))
    begun = fake.told[-1]
    fake.told, fake.lives = [], 1000
    again = tune.tuned(asked("killed", trials=6))
    assert rows(again) == rows(whole) and fake.told[0] == begun
    assert again.best == whole.best and again.importance == whole.importance


def test_a_combination_that_is_refused_is_a_trial_with_its_reason_and_the_best_is_a_recipe(asked, fake, tmp_path):
    found = tune.tuned(asked(trials=6))
    reasons = {trial.reason for trial in found.trials if trial.state == "failed"}
    assert any("train.accumulate=16 does not divide" in reason for reason in reasons)
    best = load(tmp_path / "out" / "best.toml")
    assert best.hash == found.recipe.hash and (tmp_path / "out" / found.trials[found.best].run).is_dir()
    assert found.best_value == min(trial.metric for trial in found.trials if trial.metric is not None)


def test_more_trials_follow_and_another_search_does_not_mix_with_it(asked, fake):
    one = asked(trials=2)
    tune.tuned(one)
    with pytest.raises(BadInput, match="holds a search of another recipe, space or backend"):
        tune.tuned(replace(one, overrides=("model.hidden=[9]",)))
    one.space.write_text(f"trials = 4{SPACE}")  # how many is no part of what is searched
    assert len(tune.tuned(replace(one, trials=None, jobs=2)).trials) == 4


def test_a_trial_that_is_given_up_is_saved_and_none_is_trained_twice(asked, fake, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "pruning", lambda trial, prunes: lambda step, value: prunes and step == 100 and value > 1)
    text = 'sampler = "grid"\n[space]\noptimizer.learning_rate = { choices = [1e-2, 2e-2, 1e-4] }'
    found = tune.tuned(asked("out", "train.eval_every=50", text=text, trials=99))
    assert found.pruner == "median" and len(found.trials) == len(fake.told) == 3  # all of the grid
    (pruned,) = (trial for trial in found.trials if trial.state == "pruned")
    assert pruned.params == {"optimizer.learning_rate": 1e-4} and pruned.metric is None
    assert read_run(tmp_path / "out" / pruned.run)["state"] == "stopped"


def test_a_recipe_that_is_drawn_twice_is_trained_once(asked, fake):
    text = 'sampler = "random"\n[space]\noptimizer.beta1 = { choices = [0.8, 0.9] }'
    found = tune.tuned(asked("out", text=text, trials=6))
    assert len({trial.hash for trial in found.trials}) == len(fake.told) == 2


@pytest.mark.parametrize("text, overrides, words", [
    ("[space]\nmodel.hiden = { low = 1, high = 3 }", (), "space.model.hiden: takes none of its values"),
    ('metric = "recall"\ndirection = "maximize"' + SPACE, (), 'metric = "recall": no value of an evaluation'),
    ('pruner = "median"' + SPACE, (), "train.eval_every = 0 has none before the end"),
    (SPACE, ("devices.hosts=2",), "devices.hosts=2: a trial trains on one host")])
def test_what_cannot_be_searched_is_said_before_anything_is_written(asked, fake, tmp_path, text, overrides, words):
    with pytest.raises(BadInput, match=words):
        tune.tune(**vars(asked("out", *overrides, text=text)))
    assert not (tmp_path / "out").exists() and not fake.told


def test_what_is_no_matter_of_a_trial_ends_the_search(asked, fake, tmp_path, monkeypatch):
    def full(*_, **__):
        raise CannotSave("no space left on device")

    monkeypatch.setattr(fake, "ask", full)
    with pytest.raises(CannotSave):
        tune.tuned(asked(trials=3))
    assert not (tmp_path / "out" / "tune.json").exists()


def test_two_searches_do_not_share_a_directory(asked, tmp_path):
    (tmp_path / "out").mkdir()
    with tune.held(tmp_path / "out"), pytest.raises(BadInput, match="another `twinscale tune` is at work"), \
            tune.held(tmp_path / "out"):
        pass


def test_a_second_objective_makes_a_front(asked, fake, capsys):
    assert tune.tune(**vars(asked(text='cost = "flops"' + SPACE, trials=4)), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    ended = {trial["number"]: trial for trial in found["trials"] if trial["state"] == "complete"}
    front = [ended[number] for number in found["front"]]
    assert found["searched"] and [one["flops"] for one in front] == sorted(one["flops"] for one in front)
    for one in ended.values():
        assert any(other["metric"] <= one["metric"] and other["flops"] <= one["flops"] for other in front)
