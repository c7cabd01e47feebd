"""First weights out of a checkpoint; the files are those of real programs."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign.taken import first_of
from twinscale.common.pairs.tensors import Tensor

A = [Tensor("norm/gamma", (4,)), Tensor("norm/beta", (4,)), Tensor("norm/moving_mean", (4,), False),
     Tensor("norm/moving_variance", (4,), False), Tensor("hidden/kernel", (4, 3)), Tensor("hidden/bias", (3,)),
     Tensor("logits/kernel", (3, 2))]


def test_first_weights_are_those_of_either_sides_checkpoint(both):
    folder, of = both
    for checkpoint, match in (("model.keras", None), ("port.msgpack", folder / "match.toml")):
        found = first_of(A, folder / checkpoint, match)
        assert list(found) == [tensor.path for tensor in A]
        assert all(np.array_equal(found[name], of[name]) for name in found)


def test_layers_without_names_are_found_in_a_file_of_another_process(tmp_path):
    keras = pytest.importorskip("keras")

    def build():
        return keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(3))])

    def path(weight):
        return weight.path.partition("/")[2]  # without the model's own name, as programs have it

    first, second = build(), build()  # whose layers are numbered on
    assert {path(weight) for weight in first.weights} & {path(weight) for weight in second.weights} == set()
    second.save_weights(tmp_path / "it.weights.h5")
    tensors = [Tensor(path(weight), tuple(weight.shape)) for weight in first.weights]
    found = first_of(tensors, tmp_path / "it.weights.h5")
    pairs = zip(first.weights, second.weights, strict=True)
    assert all(np.array_equal(found[path(one)], other) for one, other in pairs)


def test_what_does_not_fit_is_refused_by_name(both, tmp_path):
    folder, _ = both
    with pytest.raises(BadInput, match='model.keras: hiden/kernel is not in it; did you mean "hidden'):
        first_of([Tensor("hiden/kernel", (4, 3))], folder / "model.keras")
    with pytest.raises(BadInput, match=r"hidden/kernel: has shape \(4, 3\), but \(4, 5\) is wanted"):
        first_of([Tensor("hidden/kernel", (4, 5)), Tensor("hidden/bias", (3,))], folder / "model.keras")
    np.savez(tmp_path / "bad.npz", **{"hidden/bias": np.array([1.0, np.inf, 0.0])})
    with pytest.raises(BadInput, match="hidden/bias: holds what is not finite"):
        first_of([Tensor("hidden/bias", (3,))], tmp_path / "bad.npz")
    (tmp_path / "match.toml").write_text('[tensors]\n"fc/bias" = "hidden/bias | slice 0 0 2"\n')
    np.savez(tmp_path / "part.npz", **{"fc/bias": np.zeros(2)})
    with pytest.raises(BadInput, match="hidden/bias cannot be made of what is in it"):
        first_of([Tensor("hidden/bias", (3,))], tmp_path / "part.npz", tmp_path / "match.toml")
