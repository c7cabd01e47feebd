"""Trackers are told of all that a run logs, and can neither slow a training nor end it, nor change what it is."""

import threading
import time

import pytest

from twinscale.common.errors import BadInput, MissingEnvironment, Stopped
from twinscale.common.recipe.file import load
from twinscale.common.trackers import base
from twinscale.common.training.run import open_run
from twinscale.common.training.run_metrics import Logger


def recipe_with(*names):
    return load("mlp-digits", [f"train.trackers={list(names)}".replace("'", '"')])


@pytest.fixture
def told(monkeypatch):
    """What a tracker in the place of MLflow was told; `slow` is what it waits for before it listens."""
    found, slow = [], threading.Event()
    slow.set()

    def opened(subject):
        slow.wait(10)
        found.append(("open", subject.id, subject.start))
        return base.Handle(lambda step, metrics: found.append((step, dict(metrics))),
                           lambda files: found.append([file.name for file in files]),
                           lambda state, last: found.append((state, last["train/loss"])))

    monkeypatch.setattr(base, "tracker_of", lambda name: base.Tracker("X", (), opened))
    return found, slow


def test_trackers_are_no_part_of_a_recipes_hash_nor_of_what_it_means():
    plain, tracked = load("mlp-digits"), recipe_with("tensorboard", "wandb", "mlflow")
    assert tracked.train.trackers and (plain.hash, plain.meaning) == (tracked.hash, tracked.meaning)


def test_each_tracker_can_be_found():
    for name in base.TRACKERS:
        assert base.tracker_of(name).needs
    with pytest.raises(BadInput, match="train.trackers='comet'"):
        base.tracker_of("comet")


def test_a_package_that_is_missing_is_said_before_anything_else(monkeypatch, tmp_path):
    monkeypatch.setattr("twinscale.common.errors.lacking", lambda modules: next(iter(modules)))
    with pytest.raises(MissingEnvironment, match='wandb is not installed, and train.trackers has "wandb"; pip '):
        base.check_trackers(recipe_with("wandb"), tmp_path)
    base.check_trackers(load("mlp-digits"), tmp_path)
    with pytest.raises(BadInput, match="train.trackers.*unheard"):
        base.tracker_of("unheard")
    monkeypatch.setattr("twinscale.common.errors.lacking", lambda modules: None)
    with pytest.raises(BadInput, match="gs://b/run is no directory of this machine"):
        base.check_trackers(recipe_with("wandb"), "gs://b/run")


def test_a_tracker_is_told_of_all_that_is_logged_and_how_it_ended(told, tmp_path):
    recipe = recipe_with("mlflow")
    with open_run(tmp_path / "run", recipe, "jax") as run:
        with base.following(recipe, run, 0) as log, Logger(run.path, also=log) as logger:
            logger.log(1, {"train/loss": 2.5})
            logger.log(2, {"train/loss": 1.5})
        run.ending = "stopped"
    with pytest.raises(Stopped), open_run(tmp_path / "run", recipe, "jax") as run, \
            base.following(recipe, run, 2) as log:
        log(2, {"train/loss": None})
        raise Stopped("asked to")
    found, _ = told
    assert found[:4] == [("open", run.info["id"], 0), (1, {"train/loss": 2.5}), (2, {"train/loss": 1.5}),
                         ("finished", 1.5)]
    assert found[4] == ("open", run.info["id"], 2) and found[6][0] == "stopped"  # the same run, gone on with


def test_no_step_waits_for_a_tracker(told, tmp_path):
    found, slow = told
    slow.clear()
    recipe = recipe_with("mlflow")
    with open_run(tmp_path / "run", recipe, "jax") as run, base.following(recipe, run, 0) as log:
        began = time.perf_counter()
        for step in range(1000):
            log(step, {"train/loss": 1.0})
        assert time.perf_counter() - began < 1 and found == []
        slow.set()
    assert [line[0] for line in found[1:-1]] == list(range(1000))


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(monkeypatch, tmp_path, capfd):
    logged = []

    def opened(name):
        def fail(*_):
            raise ConnectionError("nobody answers\nfor long")

        return lambda subject: base.Handle(
            fail if name == "wandb" else lambda step, metrics: logged.append(step), fail, lambda state, last: None)

    monkeypatch.setattr(base, "tracker_of", lambda name: base.Tracker(name, (), opened(name)))
    recipe = recipe_with("wandb", "mlflow")
    with open_run(tmp_path / "run", recipe, "jax") as run, base.following(recipe, run, 0) as log:
        log(1, {})
        log(2, {})
    (line,) = capfd.readouterr().err.splitlines()
    assert "wandb: ConnectionError: nobody answers; logged to it no further, the training goes on" in line
    assert logged == [1, 2]


def test_what_is_beside_a_comparisons_runs_is_not_tracked(told, tmp_path):
    recipe = recipe_with("mlflow")
    with open_run(tmp_path / "run", recipe, "jax") as run:
        with base.following(recipe, run, 0, tracked=False) as log:
            assert log is None
        with base.following(load("mlp-digits"), run, 0) as log:
            assert log is None
    assert told[0] == []


def test_a_verdict_is_a_run_with_its_files(told, tmp_path):
    for name in ("verdict.json", "report.md"):
        (tmp_path / name).write_text("{}")
    base.log_verdict(recipe_with("mlflow"), tmp_path, {"train/loss": 1.0},
                     [tmp_path / name for name in ("verdict.json", "report.md", "gone.html")])
    assert told[0][1:] == [(0, {"train/loss": 1.0}), ["verdict.json", "report.md"], ("finished", 1.0)]
