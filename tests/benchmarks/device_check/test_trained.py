"""Trainings of a check: where they are, that none is done twice, and what bits tell."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.benchmarks.device_check import trained as trainings
from twinscale.benchmarks.workers import CPU
from twinscale.common.errors import TwinscaleError
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import save_tensors
from twinscale.common.recipe.file import load
from twinscale.common.training.run import open_run
from twinscale.common.training.run_metrics import Logger

RECIPE = load("mlp-digits", ["train.steps=6", "schedule.warmup=2"])


@pytest.fixture
def workers(monkeypatch):
    """In the place of processes: each leaves a finished run of the devices that its environment lets it see. Returns
    what was asked of them."""
    asked = []

    def ask(environment, backend, call, recipe, run_dir, probe, **options):
        assert call == "run_training" and probe["trace"] == "full" and options["overwrite"]
        asked.append((backend, run_dir.name, probe["twin_steps"]))
        names = ["TFRT_CPU_0"] if environment else ["cuda:0"]
        with open_run(run_dir, recipe, backend, overwrite=True) as run:
            run.update(devices=names)

    @contextmanager
    def opened(environment, rooms, anew):
        assert anew and environment in ({}, CPU)
        backend, = rooms
        yield {backend: SimpleNamespace(ask=lambda call, recipe, **given: ask(
            environment, backend, call, recipe, **given))}

    monkeypatch.setattr(trainings, "open_workers", opened)
    return asked


def test_a_run_is_trained_once_with_its_twin_and_again_once_forgotten(workers, tmp_path):
    for _ in range(2):
        path = trainings.trained(tmp_path, "parity-mlp-jax-device", "jax", RECIPE)
        other = trainings.trained(tmp_path, "parity-mlp-jax-cpu", "jax", RECIPE, "cpu")
    assert workers == [("jax", "parity-mlp-jax-device", 6), ("jax", "parity-mlp-jax-cpu", 6)]
    assert not trainings.on_cpu(path) and trainings.on_cpu(other) and trainings.devices(path) == "cuda:0"
    (tmp_path / "runs" / "parity-mlp-jax-device" / "mine.txt").write_text("kept")
    trainings.forget(tmp_path, "parity-mlp-jax")
    assert [file.name for file in (tmp_path / "runs").rglob("*") if file.is_file()] == ["mine.txt"]
    trainings.forget(tmp_path / "elsewhere", "parity-mlp-jax")
    trainings.trained(tmp_path, "parity-mlp-jax-cpu", "jax", RECIPE, "cpu")
    assert len(workers) == 3


def test_a_training_that_was_elsewhere_is_no_answer(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "CPU", {})
    with pytest.raises(TwinscaleError, match="was to be trained on the CPU, and run.json says cuda:0"):
        trainings.trained(tmp_path, "a", "jax", RECIPE, "cpu")


def test_bits_tell_runs_apart_that_are_equal_as_numbers(tmp_path):
    def left(name, x, loss=0.5):
        with open_run(tmp_path / name, RECIPE, "jax") as run, Logger(run.path) as logger:
            logger.log(0, {"train/loss": loss})
            for file in (RunFiles(run.path).step(1), RunFiles(run.path).final):
                save_tensors(file, {"weights/w": x})
        return tmp_path / name

    zero, one = np.zeros(3, np.float32), left("a", np.zeros(3, np.float32))
    assert trainings.unequal(one, left("same", zero)) == ([], 3)
    differing, count = trainings.unequal(one, left("minus", -zero))
    assert (count, differing) == (3, ["weights/w after 1 update", "weights/w at the end"])
    assert trainings.unequal(one, left("loss", zero, np.nextafter(0.5, 1)))[0] == ["loss of step 0"]
    assert not trainings.same_bits(None, zero) and not trainings.same_bits(zero, zero.astype(np.float64))
