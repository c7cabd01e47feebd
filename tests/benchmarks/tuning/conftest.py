"""Searches without a framework: what trains leaves a run as a training would, its losses by a formula."""

import math
import signal
import time
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.tuning import trials, tune
from twinscale.benchmarks.tuning.tune import Asked
from twinscale.common.errors import Stopped
from twinscale.common.training.run import open_run
from twinscale.common.training.run_metrics import Logger

SPACE = """
seed = 3
[space]
optimizer.learning_rate = { low = 1e-4, high = 1e-1, log = true }
train.accumulate = { choices = [1, 16] }
train.global_batch = { low = 8, high = 40, step = 8 }
"""


class Fake:
    """In the place of a backend's process. `told` is every recipe that it was asked to train; after `lives`
    trainings it takes the whole search with it."""

    told, lives, stopping = [], 1000, False

    def __init__(self, backend, module=None, anew=True):
        self.backend, self.process = backend, SimpleNamespace(poll=lambda: None, pid=-1)

    def ask(self, call, recipe, run_dir, progress):
        Fake.told.append(recipe.hash)
        Fake.stopping = False
        rate, stopped = recipe.optimizer.learning_rate, False
        with open_run(run_dir, recipe, self.backend) as run:
            if len(Fake.told) > Fake.lives:
                raise KeyboardInterrupt
            loss = (math.log10(rate) + 2) ** 2 + recipe.train.global_batch / 100
            with Logger(run.path) as logger:
                every = recipe.train.eval_every
                for step in range(every, recipe.train.steps, every) if every else ():
                    logger.log(step - 1, {"held_out/loss": loss + 1 / step})
                    stopped = stopped or step >= 100 and loss > 1 and self.waits()
            if stopped:
                raise Stopped("stopped")
            run.update(final={"loss": loss}, seconds={"train": 1.0, "compile": 9.0})
        return {"loss": loss}

    def waits(self):
        """Whether it is told to stop, for which it waits, as whoever watches may be slow."""
        began = time.monotonic()
        while not Fake.stopping and time.monotonic() - began < 20:
            time.sleep(0.01)
        return Fake.stopping

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    """Trains without a framework, and is told to stop without a signal."""
    def kill(pid, number):
        assert (pid, number) == (-1, signal.SIGTERM)
        Fake.stopping = True

    Fake.told, Fake.lives, Fake.stopping = [], 1000, False
    monkeypatch.setattr(trials, "Worker", Fake)
    monkeypatch.setattr(trials, "POLL", 0.01)
    monkeypatch.setattr(trials.os, "kill", kill)
    monkeypatch.setattr(tune, "write_tuning", lambda found, out: None)  # whose figures take a second a search
    return Fake


@pytest.fixture
def asked(tmp_path):
    """asked(name, overrides, text, **further): a search of digits into the directory `name`."""
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")

    def make(name="out", *overrides, text=SPACE, **further):
        file = tmp_path / "space.toml"
        file.write_text(text)
        return Asked("mlp-digits", overrides, file, tmp_path / name, "jax", **further)

    return make
