"""What is seen of a program, as a file: what is read is what was written, and nothing else is taken for it."""

import math

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.pairs.parting import Sight
from twinscale.common.pairs.program import Seen
from twinscale.common.pairs.sight import KEY, read_sight, write_sight

X = np.random.default_rng(0).normal(size=(5, 4))


@pytest.mark.parametrize("noise", [1e-7, math.inf])
def test_a_sight_comes_back_and_an_array_of_two_modules_lies_there_once(tmp_path, noise):
    shared = 2 * X
    sight = Sight((Seen("fc", (X,), (shared,)), Seen("ids", (), (X,)), Seen("out", (shared,), (3 * X,))),
                  {"output": 3 * X}, noise)
    write_sight(tmp_path / "sight.safetensors", sight, {"ids": np.arange(5, dtype=np.int32)})
    found, inputs = read_sight(tmp_path / "sight.safetensors")
    assert [one.module for one in found.seen] == ["fc", "ids", "out"] and found.noise == noise
    for one, other in zip(found.seen, sight.seen, strict=True):
        for x, y in zip((*one.inputs, *one.outputs), (*other.inputs, *other.outputs), strict=True):
            assert np.array_equal(x, y) and x.dtype == y.dtype
    assert np.array_equal(found.outputs["output"], 3 * X) and np.array_equal(inputs["ids"], np.arange(5))
    assert len(load_tensors(tmp_path / "sight.safetensors")) == 5  # X, 2 X, 3 X of a module and of the outputs, ids


@pytest.mark.parametrize("said", [{}, {KEY: "{}"}, {KEY: '{"calls": [["fc", [7], []]], "outputs": {}, "inputs": {}, '
                                                         '"noise": 0.0}'}, {KEY: "nonsense"}])
def test_another_file_is_refused(tmp_path, said):
    save_tensors(tmp_path / "other.safetensors", {"0": X}, said)
    with pytest.raises(BadInput, match=r"other\.safetensors: not what is seen of a program"):
        read_sight(tmp_path / "other.safetensors")
