"""Steps as trials, in both rooms: from one run's states both take the same steps, and twins differ by their noise."""

import importlib

import numpy as np

from twinscale.benchmarks.jumps import trial_checks
from twinscale.benchmarks.rungs.flips import LOUD
from twinscale.common.calls.trials import step_trials
from twinscale.common.files.tensors import load_tensors
from twinscale.common.training.loop import Probe, run_training

STEPS = [0, 2, 3]


def test_both_rooms_take_the_same_steps_from_one_runs_states(recipe_of, tmp_path):
    recipe = recipe_of("mlp", model={"hidden": [12]}, optimizer={"name": "sgd", "learning_rate": 0.1},
                       train={"steps": 4, "precision": "float32"})
    rooms = {backend: importlib.import_module(f"twinscale.{room}.room").ROOM
             for backend, room in (("keras", "tfscale"), ("jax", "jaxscale"))}
    probe = Probe(trace="full", traced=tuple(STEPS), evaluated=False, saved=False, log_every=1)
    run_training(rooms["keras"], recipe, tmp_path / "run", probe=probe, progress=False)
    found = {}
    for backend, room in rooms.items():
        step_trials(room, recipe, tmp_path / backend, tmp_path / "run", STEPS, LOUD)
        found[backend] = load_tensors(tmp_path / backend) | {"positions": recipe.train.global_batch}
    for trials in found.values():
        twin, loud = trials["apart"]
        assert (twin > 0).all() and (twin < 1e-5).all() and (loud > 10 * twin).all()
        assert (trials["loss"] > 0).sum() == 3 * 5  # the last step has none after it
        assert len(np.unique(trials["loss"][0, :, 0])) == len(STEPS)
    loss, checks = trial_checks("float32", found, STEPS)
    assert all(c["agrees"] for c in (loss, *checks))
    # A tenth off in one layer is seen in all of them.
    for step in STEPS:
        found["jax"][f"{step}/gradients/layer_0.kernel"] *= 1.1
    assert not all(c["agrees"] for c in trial_checks("float32", found, STEPS)[1])
