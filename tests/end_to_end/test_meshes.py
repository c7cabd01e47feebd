"""P6 in one process: a tiny decoder, with what JAX can be told of a step, on one device and over four, and what a mean
of the devices' means does to it."""

from unittest.mock import patch

import pytest

from twinscale.benchmarks import meshes
from twinscale.benchmarks.meshes import judge, judge_side, prepared, train_devices
from twinscale.benchmarks.meshes_fit import MESHES, Mesh
from twinscale.common.training import session
from twinscale.common.training.loop import Probe, run_training

FEW = (Mesh({"data": 2, "fsdp": 2}, accumulate=2), Mesh({"tensor": 2}), Mesh({"data": 2, "sequence": 2}))
KNOBS = {"fused": True, "shard_optimizer": True, "loss_chunks": 2, "attention": "ring"}  # a ring where there can be one


class Here:
    """What a comparison asks of a backend's process, answered in this one."""

    def __init__(self, room):
        self.backend, self.room = room.backend, room

    def ask(self, call, recipe, *, run_dir, probe, progress):
        assert call == "run_training"
        return run_training(self.room, recipe, run_dir, probe=Probe(**probe), progress=progress)


@pytest.fixture
def trained(recipe_of, room_of, tmp_path, monkeypatch):
    """trained(): (rung, what a verdict says of the meshes), all trained here, and compiled as little as can be."""
    import jax

    monkeypatch.setitem(MESHES, "jax", FEW)
    recipe = recipe_of("decoder", optimizer={"clip_norm": 1.0},
                       model={"layers": 1, "dropout": 0.1, "activation": "swiglu"},
                       train={"precision": "float32", "steps": 6, "global_batch": 16}, jax={"scan": False, **KNOBS})
    session.SESSIONS.clear()
    jax.config.update("jax_disable_most_optimizations", True)
    here = prepared(recipe, tmp_path, virtual=0)
    yield lambda: judge(here, {"jax": judge_side(here, tmp_path, "jax", train_devices(
        here, Here(room_of("jaxscale")), tmp_path))})
    jax.config.update("jax_disable_most_optimizations", False)
    session.SESSIONS.clear()


def test_meshes_train_as_one_device_does(trained):
    rung, found = trained()
    assert rung["agrees"], rung["where"]
    assert [row["devices"] for row in found["rows"]] == [4, 2, 4] and all(row["agrees"] for row in found["rows"])
    assert found["uneven_steps"] == 6 and found["rows"][0]["weights_apart"] > 0.01
    assert any(row["loss_worst"] or row["state_worst"] for row in found["rows"])  # else nothing was told apart


@pytest.mark.slow
def test_a_mean_of_means_over_devices_is_found(trained):
    """Each share's positions count by their share's weight, as they do where devices average their own means."""
    from twinscale.jaxscale import batch_loss

    loss_sums = batch_loss.loss_sums

    def mean_of_means(recipe, logits, batch):
        shares, weights = recipe.devices.data * recipe.devices.fsdp, batch["weights"]
        own = weights.reshape(shares, -1).sum(1)
        scale = weights.sum() / shares / own.repeat(len(weights) // shares)
        return loss_sums(recipe, logits, batch | {"weights": weights * scale[:, None]})

    with patch.object(batch_loss, "loss_sums", mean_of_means):
        rung, found = trained()
    assert not rung["agrees"] and [row["agrees"] for row in found["rows"]] == [False, True, False]
    assert found["rows"][0]["state_worst"] > 100 * found["rows"][0]["state_bound"]


def test_a_mesh_that_this_machine_lacks_is_skipped(trained, monkeypatch):
    monkeypatch.setitem(MESHES, "jax", (Mesh({"data": 8}),))
    monkeypatch.setattr(meshes, "bases_of", lambda *_: [])
    rung, found = trained()
    assert found["rows"][0]["agrees"] is None and "needs 8 devices" in found["rows"][0]["why"]
