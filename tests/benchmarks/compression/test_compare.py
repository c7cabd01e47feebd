"""What the model of each row of the table is."""

from pathlib import Path

from twinscale.benchmarks.compression.compare import model_of_row
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe(name="x", data={"source": "digits"}, model={"family": "mlp", "hidden": [8]}, compress={"stages": [
    {"kind": "prune", "steps": 12, "end": 10, "sparsity": 0.5}, {"kind": "quantize", "steps": 4}]})


def test_a_row_that_is_quantised_is_its_whole_state_and_any_other_the_model_that_was_left(tmp_path):
    found = {stage: model_of_row(RECIPE, tmp_path, {"backend": "jax", "stage": stage})
             for stage in ("dense", "1-prune", "2-quantize")}
    assert [not described.compress.stages for described, _ in found.values()] == [True, True, False]
    assert [Path(file).parent.name for _, file in found.values()] == ["left", "left", "trace"]
