"""Trials on a cluster of Ray, of this machine."""

import pytest

from tests.benchmarks.tuning.conftest import SPACE
from twinscale.benchmarks.tuning import on_ray, tune
from twinscale.common.errors import BadInput, MissingEnvironment


def test_without_ray_it_is_one_line(monkeypatch):
    monkeypatch.setattr("twinscale.common.errors.lacking", lambda modules: next(iter(modules)))
    with pytest.raises(MissingEnvironment, match="ray is not installed, and --ray asks for"), \
            on_ray.cluster("auto"):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_is_is_not_waited_for(monkeypatch, address):
    monkeypatch.setattr("twinscale.common.errors.lacking", lambda modules: None)
    with pytest.raises(BadInput, match=f"--ray {address}: no cluster answers.*refused"), on_ray.cluster(address):
        pass


@pytest.mark.slow
def test_a_search_on_a_local_cluster_is_that_of_one_process(asked):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    few = ("train.steps=20", "train.eval_every=5")
    here = tune.tuned(asked("here", *few, text=SPACE, trials=5))
    there = tune.tuned(asked("there", *few, text=SPACE, trials=5, ray="local"))
    assert [(trial.params, trial.state, trial.metric) for trial in there.trials] == [
        (trial.params, trial.state, trial.metric) for trial in here.trials]
    assert any(trial.state == "complete" for trial in there.trials)
