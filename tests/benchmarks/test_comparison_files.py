"""Names of a comparison's files: each is one that the comparison may remove."""

import re
from pathlib import Path

from twinscale.benchmarks.comparison_files import HOLDS, ComparisonFiles, MeshFiles


def is_held(path, layout):
    """Whether a path, as its parts, is of a layout."""
    first, *rest = path
    inner = [below for pattern, below in layout.items() if re.fullmatch(pattern, first)]
    return bool(inner) and (not rest or inner[0] is not None and is_held(rest, inner[0]))


def test_what_is_named_is_ours_and_what_is_not_is_not():
    files = ComparisonFiles(Path())
    named = [files.verdict, files.compression, files.recipe, files.contract("jax"), files.places("keras"),
             files.first_step("keras-twin", "float64", "first"), files.optimizer("jax", "0f"), files.run("jax", "half"),
             files.taps("jax", "float64", 3), files.step("jax", "float64", "first"), files.stopped("jax-float64"),
             files.numbers("first", "given"), files.trials("jax", "float32"), files.seed("keras", 4),
             files.swapped(("keras", "jax"), "first"), files.stage("keras", "1-prune", True), files.start("1-prune"),
             files.teacher("1-distil"), files.masks("1-prune", "jax", "keras", 2), files.quanta("2-quantize", "jax"),
             files.shadow("2-quantize", "jax"), files.held_out("1-prune", "jax"), files.left("jax", "dense"),
             files.shipped("jax", "dense", "litert-float", 1), MeshFiles(files.meshes).run("jax", "data 2, tensor 2"),
             MeshFiles(files.meshes).recipe("jax", "data 2"), MeshFiles(files.meshes).log("jax", "data 2")]
    assert not [path for path in named if not is_held(path.parts, HOLDS)]
    assert len(set(named)) == len(named)
    for mine in ("thesis.tex", "runs/thesis", "tensors/mine.safetensors", "runs/torch-float64", "files/mine.tflite"):
        assert not is_held(Path(mine).parts, HOLDS), mine
