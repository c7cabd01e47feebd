"""`twinscale match`: what is refused before a process starts, and how what was found is said."""

import numpy as np
import pytest

from twinscale.benchmarks.matching import columns_on, files_of, match, said, sentence, start_from
from twinscale.common.errors import BadInput
from twinscale.common.pairs.first import read_first, write_first
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.file import given

FOUND = {"lines": 9, "tried": 4, "seconds": 2.04, "difference": 1.2e-7, "agrees": True}
PAIR = """name = "pair"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
keras = "mine.py:build"
flax = "mine.py:build"
match = "match.toml"
"""


def test_a_family_of_ours_is_not_matched():
    with pytest.raises(BadInput, match='model.family = "mlp": its tensors have one name in both'):
        match(given("mlp-digits"))


def test_files_that_are_there_are_not_overwritten_unless_asked(tmp_path):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "pair.toml").write_text(PAIR)
    (tmp_path / "match.safetensors").write_text("mine")
    with pytest.raises(BadInput, match=r"match.safetensors: is there already: .* --overwrite replaces it"):
        match(given(tmp_path / "pair.toml"))
    assert (tmp_path / "match.safetensors").read_text() == "mine"


def test_first_weights_are_a_checkpoints_of_either_side(tmp_path):
    """Of the port's what the match takes back, by the names that are there; and dtypes stay."""
    tensors = (Tensor("fc/kernel", (2, 3)), Tensor("fc/bias", (3,)))
    theirs = {"params/dense/kernel": np.arange(6.0).reshape(3, 2), "params/dense/bias": np.full(3, 4.0)}
    first, match_file = tmp_path / "first.safetensors", tmp_path / "match.toml"
    match_file.write_text('[tensors]\n"dense/kernel" = "fc/kernel | transpose 1 0"\n"dense/bias" = "fc/bias"\n')
    np.savez(tmp_path / "port.npz", **theirs)
    np.savez(tmp_path / "own.npz", **{"fc/kernel": np.full((2, 3), 7.0), "fc/bias": np.zeros(3)})
    for name, of, kernel in (("port.npz", "flax", theirs["params/dense/kernel"].T), ("own.npz", "keras", 7.0)):
        write_first(first, tensors, {tensor.path: np.ones(tensor.shape, np.float32) for tensor in tensors})
        start_from(first, match_file, tmp_path / name, of)
        found, values = read_first(str(first))
        assert found == tensors and (values["fc/kernel"] == kernel).all() and values["fc/kernel"].dtype == np.float32
    with pytest.raises(BadInput, match="port.npz: fc/kernel is not in it"):
        start_from(first, match_file, tmp_path / "port.npz", "keras")


def test_a_checkpoint_that_is_not_there_is_refused_before_a_process_starts(tmp_path):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "pair.toml").write_text(PAIR)
    with pytest.raises(BadInput, match="absent.npz: cannot be read"):
        match(given(tmp_path / "pair.toml"), checkpoint=tmp_path / "absent.npz")
    with pytest.raises(BadInput, match="--of='torch': nothing here is called so; known are keras, flax"):
        match(given(tmp_path / "pair.toml"), checkpoint=tmp_path / "absent.npz", of="torch")


def test_a_runtime_is_chosen_of_a_keras_program_beside_its_port_alone(tmp_path):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "pair.toml").write_text(PAIR)
    model = given(tmp_path / "pair.toml").model
    assert columns_on(model, None) == columns_on(model, "tensorflow") == ()
    assert columns_on(model, "jax") == ("keras-jax", "jax")
    text = PAIR.replace("keras =", 'framework = "keras"\na =').replace("flax =", "b =")
    (tmp_path / "pair.toml").write_text(text)
    with pytest.raises(BadInput, match='model.framework = "keras": --runtime jax takes no two programs'):
        match(given(tmp_path / "pair.toml"), runtime="jax")


def test_a_match_says_whether_outputs_agree():
    assert sentence({"flax": FOUND}) == "9 tensors matched in 4 trials and 2.0 s: outputs differ by 1.2e-07."
    apart = sentence({"flax": FOUND | {"agrees": False, "difference": 0.3}})
    assert "still differ by 3.0e-01" in apart and "the match of their names" in apart


def test_a_checkpoint_that_the_recipe_names_is_never_written(tmp_path):
    (tmp_path / "mine.py").write_text("")
    file = tmp_path / "pair.toml"
    file.write_text(PAIR + 'weights = "mine.npz"\n')
    with pytest.raises(BadInput, match=r"model.weights: .*mine.npz: no such checkpoint"):
        files_of(given(file).model, None)
    np.savez(tmp_path / "mine.npz", x=np.ones(2))
    model = given(file).model
    assert files_of(model, None) == ((tmp_path / "match.toml", tmp_path / "match.safetensors"), tmp_path / "mine.npz")
    with pytest.raises(BadInput, match="--from: model.weights is a checkpoint already"):
        files_of(model, tmp_path / "mine.npz")
    file.write_text(PAIR)
    assert files_of(given(file).model, None) == ((tmp_path / "match.toml", tmp_path / "match.safetensors"), None)


@pytest.mark.parametrize("second", ["flax", "b"])
def test_what_was_found_of_the_second_side_is_told_whatever_it_is_called(second, capsys):
    said({second: FOUND | {"told": ["dropout is off"]}, "from": "initial values"})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "twinscale: dropout is off" and "9 tensors matched" in lines[1]
