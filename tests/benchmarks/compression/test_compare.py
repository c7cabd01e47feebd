"""Stages by their labels, and what each row's model is."""

from pathlib import Path

from twinscale.benchmarks.compression.compare import model_of_row
from twinscale.benchmarks.compression.stages import before, label_of, stages
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp", "hidden": [8]}, compress={"stages": [
    {"kind": "prune", "steps": 12, "end": 10, "sparsity": 0.5}, {"kind": "quantize", "steps": 4}]})


def test_stages_come_in_order_under_labels_of_their_own():
    assert [(number, label) for number, _, label in stages(RECIPE)] == [(0, "1-prune"), (1, "2-quantize")]
    assert [before(RECIPE, number) for number in range(2)] == ["dense", "1-prune"] and label_of(RECIPE, -1) == "dense"
    assert [len(described.compress.stages) for _, described, _ in stages(RECIPE)] == [1, 2]


def test_a_row_that_is_quantised_is_its_whole_state_and_any_other_the_model_that_was_left(tmp_path):
    found = {stage: model_of_row(RECIPE, tmp_path, {"backend": "jax", "stage": stage})
             for stage in ("dense", "1-prune", "2-quantize")}
    assert [not described.compress.stages for described, _ in found.values()] == [True, True, False]
    assert [Path(file).parent.name for _, file in found.values()] == ["left", "left", "trace"]
