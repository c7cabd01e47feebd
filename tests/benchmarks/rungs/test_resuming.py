"""Trainings that are stopped and gone on with."""

import numpy as np

from twinscale.benchmarks.rungs.resuming import Resumed, resume_cause, stopped_path
from twinscale.common.files.tensors import save_tensors
from twinscale.common.recipe.schema import Recipe

MLP = Recipe.model_validate({"name": "mine", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                             "train": {"steps": 8, "global_batch": 4, "precision": "float64"}})


def test_what_is_read_back_otherwise_than_saved_is_the_checkpoint_s(tmp_path):
    asked = []

    class Worker:
        backend = "keras"

        def ask(self, call, recipe, **arguments):
            asked.append((call, arguments.get("probe")))
            if call == "run_training":
                save_tensors(arguments["run_dir"] / "trace" / "final.safetensors",
                             {"weights/a": np.ones(2), "m/a": np.full(2, 0.5)})

    worker = Resumed(Worker(), tmp_path, 3)
    for backend in ("keras", "jax"):
        run = tmp_path / "runs" / f"{backend}-float64"
        (run / "trace").mkdir(parents=True)
        (tmp_path / "tensors").mkdir(exist_ok=True)
        worker.ask("run_training", MLP, run_dir=run, probe={"stop": 8, "saved": False})
        assert stopped_path(tmp_path, run.name).is_file()
        save_tensors(run / "trace" / "step_3.safetensors", {"weights/a": np.ones(2), "m/a": np.full(2, 0.5)})
    assert [probe["stop"] for _, probe in asked] == [3, 8, 3, 8] and all(probe["saved"] for _, probe in asked)
    assert resume_cause(MLP, tmp_path, 3) is None
    save_tensors(run / "trace" / "step_3.safetensors", {"weights/a": np.ones(2), "m/a": np.zeros(2)})
    found = resume_cause(MLP, tmp_path, 3)
    assert (found["operation"], found["where"], found["tensor"], found["step"]) == ("checkpoint", "a", "m/a", 3)
