"""Trials on a cluster of Ray, of this machine."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tests.benchmarks.tuning.conftest import SPACE
from twinscale.benchmarks.tuning import on_ray, tune
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.run_files import LOCK


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


@pytest.fixture
def nodes(monkeypatch):
    """nodes({address: what it sees of a file}): a cluster of such nodes, one of which has died."""
    def make(looks):
        def remote(scheduling_strategy, num_cpus):
            assert num_cpus == 0  # or it waited for whoever trains
            return lambda look: SimpleNamespace(remote=lambda path: (scheduling_strategy, look, path))

        def get(answer, timeout):
            node, look, path = answer
            return looks[node](look, path)

        listed = [{"Alive": True, "Resources": {"CPU": 2.0}, "NodeID": name, "NodeManagerAddress": name}
                  for name in looks]
        idle = [{"Alive": False, "Resources": {"CPU": 1.0}}, {"Alive": True, "Resources": {}}]
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: [*listed, *idle], remote=remote, get=get))
        monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", SimpleNamespace(
            NodeAffinitySchedulingStrategy=lambda node, soft: node))

    return make


def fails(look, path):
    raise ModuleNotFoundError("No module named 'twinscale'\nand more")


@pytest.mark.parametrize("other, words", [
    (lambda look, path: look(path), None), (lambda look, path: look(path + "-elsewhere"), "does not see it"),
    (lambda look, path: "of an earlier search", "does not see it"),
    (fails, "cannot look .*No module named 'twinscale'")])
def test_a_node_that_does_not_see_the_directory_is_one_line(nodes, tmp_path, other, words):
    (tmp_path / LOCK).write_text("of an earlier search")
    nodes({"10.0.0.1": lambda look, path: look(path), "10.0.0.2": other})
    with pytest.raises(BadInput, match=f"--out {tmp_path}: the cluster's node 10.0.0.2 {words}") if words else (
            nullcontext()) as caught:
        on_ray.check_shared(tmp_path)
    assert not words or "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_directory_is_looked_for_by_a_real_node(monkeypatch, tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with on_ray.cluster("local", shared=tmp_path):
        assert len((tmp_path / LOCK).read_text()) == 32
        monkeypatch.setattr(on_ray, "seen", lambda path: "")
        with pytest.raises(BadInput, match="does not see it"):
            on_ray.check_shared(tmp_path)


@pytest.mark.slow
def test_a_search_on_a_local_cluster_is_that_of_one_process(asked):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    few = ("train.steps=20", "train.eval_every=5")
    here = tune.tuned(asked("here", *few, text=SPACE, trials=5))
    there = tune.tuned(asked("there", *few, text=SPACE, trials=5, ray="local"))
    assert [(trial.params, trial.state, trial.metric) for trial in there.trials] == [
        (trial.params, trial.state, trial.metric) for trial in here.trials]
    assert any(trial.state == "complete" for trial in there.trials)
