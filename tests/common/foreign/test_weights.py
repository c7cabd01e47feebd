"""Two checkpoints under a match; the files are those of real programs."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign.weights import apart
from twinscale.common.pairs.first import write_first
from twinscale.common.pairs.tensors import Tensor


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
