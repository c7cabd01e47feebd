"""Studies without a framework: what trains leaves a run as a training would, its losses by a law."""

from types import SimpleNamespace

import pytest

from twinscale.benchmarks.studies import study as studies
from twinscale.benchmarks.studies.sizes import size_of
from twinscale.benchmarks.studies.study import Asked
from twinscale.benchmarks.tuning import trials
from twinscale.common.errors import BadInput
from twinscale.common.training.run import open_run
from twinscale.common.training.run_metrics import Logger

SIZES = "[{ model.hidden = [8] }, { model.hidden = [32] }]"
TEXT = f"""
recipe = "mlp-digits"
backend = "both"
[design]
kind = "grid"
sizes = {SIZES}
tokens = [3200, 12800]
"""


class Fake:
    """In the place of a backend's process. `told` is (backend, hash) of all that it was asked to train; after `lives`
    trainings it takes the whole study with it. Recipes of a learning rate of 1 fail."""

    told, lives = [], 1000

    def __init__(self, backend, module=None, anew=True):
        self.backend, self.process = backend, SimpleNamespace(poll=lambda: None, pid=-1)

    def ask(self, call, recipe, run_dir, progress):
        Fake.told.append((self.backend, recipe.hash))
        if len(Fake.told) > Fake.lives:
            raise KeyboardInterrupt
        if recipe.optimizer.learning_rate == 1:
            raise BadInput("the loss is not finite at step 7")
        size, examples = size_of(recipe).total, recipe.train.steps * recipe.train.global_batch
        scatter = int(recipe.hash[:4], 16) / 1e7 + (1e-6 if self.backend == "keras" else 0)
        loss = 0.5 + 20 / size**0.4 + 30 / examples**0.5 + scatter
        with open_run(run_dir, recipe, self.backend) as run:
            with Logger(run.path) as logger:
                logger.log(recipe.train.steps // 2, {"held_out/loss": loss + 0.1, "train/loss": loss - 0.01})
            run.update(final={"loss": loss, "accuracy": 0.5}, seconds={"train": 2.0, "compile": 9.0})
        return {"loss": loss}

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    """Trains without a framework, and draws no report."""
    Fake.told, Fake.lives = [], 1000
    monkeypatch.setattr(trials, "Worker", Fake)
    monkeypatch.setattr(trials, "POLL", 0.01)
    monkeypatch.setattr(studies, "write_study", lambda found, points, out: None)
    return Fake


@pytest.fixture
def asked(tmp_path):
    """asked(overrides, text, **further): a study of digits into the directory `out`."""
    def make(*overrides, text=TEXT, **further):
        file = tmp_path / "study.toml"
        file.write_text(text)
        return Asked(file, overrides, **({"out": tmp_path / "out", "boots": 50} | further))

    return make
