"""The recipe of a pair whose programs nobody runs: for tests of what is asked of a recipe alone."""

import numpy as np

from twinscale.common.pairs.first import write_first
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.schema import Recipe

TENSORS = (Tensor("dense/kernel", (4, 3)), Tensor("bn/moving_mean", (3,), False))


def foreign(folder, model=None, **sections):
    """The recipe, of images unless `model` says otherwise, with running statistics; its files lie in a folder."""
    (folder / "mine.py").write_text("raise SystemExit\n")
    write_first(folder / "match.safetensors", TENSORS, {x.path: np.ones(x.shape, np.float32) for x in TENSORS})
    (folder / "match.toml").write_text('[tensors]\n"w" = "dense/kernel"\n')
    program = f"{folder}/mine.py:build"
    return Recipe.model_validate({"name": "pair", "data": {"source": "digits"}, "model": {
        "family": "pair", "reads": "images", "keras": program, "flax": program, "match": str(folder / "match.toml"),
        **(model or {})}, **sections})
