"""Two checkpoints under a match, and first weights out of one; the files are those of real programs."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign.weights import apart, first_of
from twinscale.common.pairs.first import write_first
from twinscale.common.pairs.tensors import Tensor

MATCH = """[tensors]
"fc/kernel" = "hidden/kernel"
"fc/bias" = "hidden/bias"
"head/kernel" = "logits/kernel | transpose 1 0"
"bn/scale" = "norm/gamma"
"bn/bias" = "norm/beta"
"bn/mean" = "norm/moving_mean"
"bn/var" = "norm/moving_variance"
"""
A = [Tensor("norm/gamma", (4,)), Tensor("norm/beta", (4,)), Tensor("norm/moving_mean", (4,), False),
     Tensor("norm/moving_variance", (4,), False), Tensor("hidden/kernel", (4, 3)), Tensor("hidden/bias", (3,)),
     Tensor("logits/kernel", (3, 2))]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(folder, {path: array} of the Keras model): model.keras; port.msgpack of equal weights under the match; its
    Orbax directory, one kernel of which is an eighth off."""
    keras, ocp = pytest.importorskip("keras"), pytest.importorskip("orbax.checkpoint")
    from flax import serialization

    folder, rng = tmp_path_factory.mktemp("both"), np.random.default_rng(0)
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="hidden")(keras.layers.BatchNormalization(name="norm")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False, name="logits")(x))
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    model.save(folder / "model.keras")
    of = {weight.path: np.array(weight) for weight in model.weights}
    params = {"fc": {"kernel": of["hidden/kernel"], "bias": of["hidden/bias"]},
              "head": {"kernel": of["logits/kernel"].T.copy()}, "bn": {"scale": of["norm/gamma"],
                                                                       "bias": of["norm/beta"]}}
    variables = {"params": params, "batch_stats": {"bn": {"mean": of["norm/moving_mean"],
                                                          "var": of["norm/moving_variance"]}}}
    (folder / "port.msgpack").write_bytes(serialization.to_bytes(variables))
    params["head"]["kernel"] = params["head"]["kernel"] + np.abs(of["logits/kernel"]).max() / 8
    params["extra"] = {"kernel": np.ones((2, 2), np.float32)}
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "port.orbax", variables)
    (folder / "match.toml").write_text(MATCH)
    return folder, of


def test_equal_checkpoints_are_equal_under_the_match(both):
    folder, _ = both
    found = apart(folder / "model.keras", folder / "port.msgpack", folder / "match.toml")
    assert len(found["tensors"]) == 7 and all(row["equal"] and row["relative"] == 0 for row in found["tensors"])
    assert found["unmatched"] == {"a": [], "b": []}


def test_what_is_apart_comes_first_and_what_has_no_partner_is_named(both):
    folder, of = both
    found = apart(folder / "model.keras", folder / "port.orbax", folder / "match.toml")
    first, *others = found["tensors"]
    assert first["tensor"] == "head/kernel" and first["of"] == ["logits/kernel"] and first["shape"] == [2, 3]
    assert first["absolute"] == pytest.approx(np.abs(of["logits/kernel"]).max() / 8, rel=1e-5)
    assert all(row["equal"] for row in others) and not first["equal"]
    assert found["unmatched"] == {"a": [], "b": ["params/extra/kernel"]}


def test_without_a_match_names_that_are_one_are_compared(both, tmp_path):
    folder, _ = both
    found = apart(folder / "port.msgpack", folder / "port.orbax", None)
    assert found["tensors"][0]["tensor"] == "params/head/kernel" and len(found["tensors"]) == 7
    assert found["unmatched"]["b"] == ["params/extra/kernel"]
    np.savez(tmp_path / "x.npz", other=np.ones(3))
    with pytest.raises(BadInput, match="no tensor of one is a tensor of the other: --match FILE says which"):
        apart(folder / "port.msgpack", tmp_path / "x.npz", None)


def test_a_match_of_other_shapes_is_refused_with_its_line(both, tmp_path):
    folder, _ = both
    for line, said in (('"head/kernel" = "logits/kernel"', r"makes \(3, 2\) of .*has \(2, 3\)"),
                       ('"head/kernel" = "logits/kernel | reshape 5"', "reshape 5: does not fit")):
        (tmp_path / "match.toml").write_text(f"[tensors]\n{line}\n")
        with pytest.raises(BadInput, match=f"match.toml: head/kernel: {said}"):
            apart(folder / "model.keras", folder / "port.msgpack", tmp_path / "match.toml")


def test_rules_of_all_blocks_and_the_order_beside_the_match(tmp_path):
    """A layer of the user's own, whose tensors the file has by number: the first weights say their order."""
    a = {f"block_{i}/{k}": np.full((2,), 10.0 * i + k) for i in range(3) for k in range(2)}
    b = {f"params/layer/{i}/{name}": np.full((2,), 10.0 * i + k) for i in range(3) for k, name in enumerate("xy")}
    np.savez(tmp_path / "a.npz", **a)
    np.savez(tmp_path / "b.npz", **b)
    (tmp_path / "match.toml").write_text('[tensors]\n"layer/{i}/x" = "block_{i}/first"\n'
                                         '"layer/{i}/y" = "block_{i}/second"\n')
    files = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "match.toml"
    with pytest.raises(BadInput, match="no tensor of one"):
        apart(*files)
    order = [Tensor(f"block_{i}/{name}", (2,)) for i in range(3) for name in ("first", "second")]
    write_first(tmp_path / "match.safetensors", order, {tensor.path: np.zeros(2) for tensor in order})
    found = apart(*files)
    assert len(found["tensors"]) == 6 and all(row["equal"] for row in found["tensors"])


def test_what_is_not_finite_is_the_furthest_apart(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2), y=np.ones(2))
    np.savez(tmp_path / "b.npz", x=np.array([1.0, np.nan]), y=np.zeros(2))
    first, second = apart(tmp_path / "a.npz", tmp_path / "b.npz", None)["tensors"]
    assert (first["tensor"], first["relative"], first["absolute"]) == ("x", None, None) and second["tensor"] == "y"


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
