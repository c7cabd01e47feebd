"""What a recipe may train besides classes of images and the next token, on the Keras program on JAX as on Flax."""

from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.workers import each
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.numbers.formats import EPS
from twinscale.common.recipe.file import given
from twinscale.common.training.run_metrics import read_metrics

ROOMS = {"keras-jax": "twinscale.kerasjax", "jax": "twinscale.jaxscale"}
RECIPES = Path(__file__).parents[2] / "recipes"
STEPS = 3
TINY = [f"train.steps={STEPS}", "train.global_batch=6", "train.log_every=1", "train.eval_every=0", "schedule.warmup=1",
        "train.precision=float64"]
ENCODER = ["model.layers=1", "model.width=16", "model.heads=2", "model.dropout=0.1"]
TABLE = [*ENCODER, f"data.source=csv:{RECIPES}/data/tickets"]
TASKS = {
    "table": ("classify-table", TABLE),
    "entities": ("ner-conll", [*ENCODER, f"data.source=conll:{RECIPES}/data/ner"]),
    "masked": ("masked-stdlib", [*ENCODER, "data.source=text:{folder}/*.txt", "data.sequence=16",
                                 "data.held_out=0.3", "data.vocabulary=257", "model.vocabulary=257",
                                 "model.positions=16"]),
    "adapters": ("classify-table", [*TABLE, 'adapt.kind="lora"', "adapt.rank=2", "adapt.dropout=0.5",
                                    'adapt.targets=["*attention.query.kernel"]']),
    "class weights": ("classify-table", [*TABLE, "train.class_weights=balanced"]),
    "mixup": ("mlp-digits", ["model.hidden=[8]", 'data.augment=["mixup"]', "data.augmenting={mixup=4.0}"])}
# A position's loss is a chain of about ten contractions of at most 64 terms, and AdamW divides a gradient by its own
# size: what rounding makes of a pass it keeps, each of the steps once.
BOUND = STEPS * 10 * 64 * EPS["float64"]


@pytest.mark.parametrize("task", TASKS)
def test_each_task_trains_as_with_flax(workers, tmp_path, task):
    for i in range(12):
        (tmp_path / f"{i}.txt").write_text(f"In text {i} foxes jump over {i + 2} dogs, and {i % 4} cats look on. " * 6)
    name, changes = TASKS[task]
    recipe = given(RECIPES / f"{name}.toml", [change.format(folder=tmp_path) if "{folder}" in change else change
                                              for change in [*TINY, *changes]])

    def trained(worker):
        run = tmp_path / worker.backend
        probe = {"trace": "full", "evaluated": False, "saved": False}
        worker.ask("run_training", recipe, run_dir=run, probe=probe, progress=False)
        losses = [line["train/loss"] for line in read_metrics(run) if "train/loss" in line]
        return losses, load_tensors(RunFiles(run).final)

    (losses, tensors), (others, theirs) = each(workers, trained).values()
    assert len(losses) == len(others) == STEPS and len(set(losses)) == STEPS
    np.testing.assert_allclose(losses, others, rtol=BOUND)
    assert tensors.keys() == theirs.keys() and {"weights", "m", "v"} <= {key.partition("/")[0] for key in theirs}
    o = recipe.optimizer
    for key, x in theirs.items():
        bound = BOUND * np.abs(x).max()
        if key.endswith("key.bias"):  # which softmax does not see: all its gradient is rounding, over epsilon
            kernel = np.abs(theirs[key.replace(".bias", ".kernel")]).max()
            bound = BOUND * (o.learning_rate / o.epsilon if key.startswith("weights/") else kernel)
        assert np.abs(tensors[key] - x).max() <= bound, key
