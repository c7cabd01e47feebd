"""The file of a pair's first weights, and the canonical names of somebody else's tensors."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import is_decayed, is_trained
from twinscale.common.files.tensors import save_tensors
from twinscale.common.pairs.first import (
    Start,
    canonical_names,
    first_draws,
    first_shapes,
    first_tensors,
    first_value,
    is_checkpoint,
    read_first,
    write_first,
)
from twinscale.common.pairs.tensors import Tensor

TENSORS = (Tensor("b/kernel", (2, 3)), Tensor("a/norm/gamma", (3,)), Tensor("a/norm/moving_variance", (3,), False),
           Tensor("a/attention.query/w_q", (3, 3)), Tensor("a/count", (), False))


def test_canonical_names_end_in_what_a_tensor_is():
    names = canonical_names(TENSORS)
    assert list(names.values()) == ["b.kernel", "a.norm.scale", "a.norm.var", "a.attention.query.w_q.kernel",
                                    "a.count.mean"]
    assert [is_trained(name) for name in names.values()] == [tensor.trained for tensor in TENSORS]
    assert [is_decayed(name) for name in names.values()] == [True, False, False, True, False]


def test_two_tensors_never_have_one_name():
    names = canonical_names([Tensor("a/kernel", (2, 2)), Tensor("a.kernel", (2, 2)), Tensor("a/w", (2, 2))])
    assert len(set(names.values())) == 3 and all(name.endswith(".kernel") for name in names.values())


def test_first_weights_come_back_in_their_order_and_bit_for_bit(tmp_path):
    values = {tensor.path: np.random.default_rng(0).normal(size=tensor.shape).astype(np.float32) for tensor in TENSORS}
    file = tmp_path / "first.safetensors"
    write_first(file, TENSORS, values)
    tensors, found = read_first(str(file))
    assert tensors == TENSORS == first_tensors(str(file))
    assert all(np.array_equal(found[name], values[name]) for name in values)
    assert first_shapes(str(file))["a.norm.var"] == (3,)
    assert np.array_equal(first_value(str(file), "b.kernel"), values["b/kernel"])


def test_a_file_that_is_missing_or_of_something_else_is_refused_with_what_makes_it(tmp_path):
    with pytest.raises(BadInput, match=r"model.weights: .*no such file: `twinscale match RECIPE` makes it"):
        read_first(str(tmp_path / "none.safetensors"))
    save_tensors(tmp_path / "other.safetensors", {"x": np.ones(2)})
    with pytest.raises(BadInput, match="does not say in which order"):
        read_first(str(tmp_path / "other.safetensors"))
    save_tensors(tmp_path / "other.safetensors", {"x": np.ones(2)}, {"tensors": '[["y", true]]'})
    with pytest.raises(BadInput, match="does not say in which order"):
        read_first(str(tmp_path / "other.safetensors"))


def test_a_checkpoint_in_the_place_of_first_weights_gives_its_values_to_the_tensors_beside_the_match(tmp_path):
    ours, theirs = ({tensor.path: np.full(tensor.shape, value, np.float32) for tensor in TENSORS}
                    for value in (1.0, 2.0))
    write_first(tmp_path / "match.safetensors", TENSORS, ours)
    np.savez(tmp_path / "theirs.npz", **theirs)
    assert is_checkpoint(tmp_path / "theirs.npz") and not is_checkpoint(tmp_path / "match.safetensors")
    assert is_checkpoint(tmp_path) and not is_checkpoint(tmp_path / "none.npz")
    start = Start(str(tmp_path / "theirs.npz"), str(tmp_path / "match.toml"))
    assert first_tensors(start) == TENSORS and (first_value(start, "b.kernel") == 2.0).all()
    assert (first_value(start._replace(weights=str(start.beside)), "b.kernel") == 1.0).all()
    np.savez(tmp_path / "theirs.npz", **theirs | {"b/kernel": np.ones((3, 2), np.float32)})
    with pytest.raises(BadInput, match=r"theirs.npz: b/kernel: has shape \(3, 2\), but \(2, 3\) is wanted"):
        read_first(start)


def test_a_checkpoint_of_the_port_is_carried_back_by_the_match(tmp_path):
    tensors = (Tensor("a/kernel", (2, 3)),)
    write_first(tmp_path / "match.safetensors", tensors, {"a/kernel": np.zeros((2, 3), np.float32)})
    (tmp_path / "match.toml").write_text('[tensors]\n"w" = "a/kernel | transpose 1 0"\n')
    np.savez(tmp_path / "port.npz", w=np.arange(6, dtype=np.float32).reshape(3, 2))
    _, values = read_first(Start(str(tmp_path / "port.npz"), str(tmp_path / "match.toml"), "flax"))
    assert np.array_equal(values["a/kernel"], np.arange(6).reshape(3, 2).T)


def test_calls_of_dropout_come_back_and_the_files_bytes_are_the_same_each_time(tmp_path):
    values = {tensor.path: np.ones(tensor.shape, np.float32) for tensor in TENSORS}
    file, calls = tmp_path / "first.safetensors", ((0.5, (3, 4)), (0.1, ()))
    for draws, wanted in ((calls, calls), ((), ()), (None, None)):
        bytes_of = set()
        for _ in range(6):
            write_first(file, TENSORS, values, draws)
            bytes_of.add(file.read_bytes())
        assert first_draws(str(file)) == wanted and len(bytes_of) == 1
        assert read_first(str(file))[0] == TENSORS
