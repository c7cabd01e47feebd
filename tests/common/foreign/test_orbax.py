"""Orbax' directories in each form that it writes, read without it."""

import json

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign.checkpoints import read_checkpoint
from twinscale.common.foreign.orbax import is_orbax

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with one tree in each form."""
    ocp = pytest.importorskip("orbax.checkpoint")
    import jax.numpy as jnp

    tree = {"params": {"fc": {"kernel": jnp.asarray(KERNEL), "bias": jnp.full(3, 1.5, jnp.bfloat16)}},
            "blocks": [jnp.zeros(2), jnp.ones(2)], "a.b": jnp.ones(2), "step": 3}
    folder = tmp_path_factory.mktemp("orbax")
    for name, options in {"together": {}, "apart": {"use_ocdbt": False}, "zarr3": {"use_zarr3": True}}.items():
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
            checkpointer.save(folder / name, tree)
    for name, steps in (("one", [5]), ("several", [5, 7])):
        with ocp.CheckpointManager(folder / name) as manager:
            for step in steps:
                manager.save(step, args=ocp.args.StandardSave(tree))
            manager.wait_until_finished()
    return folder


@pytest.mark.parametrize("name", ["together", "apart", "zarr3", "one", "several/7", "several/7/default"])
def test_each_form_is_the_same_tree(saved, name):
    found = read_checkpoint(saved / name)
    assert found.keys() == {"params/fc/kernel", "params/fc/bias", "blocks/0", "blocks/1", "a.b", "step"}
    assert np.array_equal(found["params/fc/kernel"], KERNEL) and found["step"] == 3
    assert found["params/fc/bias"].dtype == np.float32 and found["params/fc/bias"].tolist() == [1.5] * 3


def test_of_several_steps_one_is_to_be_named(saved):
    with pytest.raises(BadInput, match="several: holds several checkpoints, 5, 7: name one of them"):
        read_checkpoint(saved / "several")


@pytest.fixture
def described(tmp_path):
    """described("name"): a directory whose one array is said to be called so."""
    def make(name, **more):
        leaf = {"key_metadata": [{"key": name, "key_type": 2}], "value_metadata": {"value_type": "jax.Array"}}
        (tmp_path / "_METADATA").write_text(json.dumps({"tree_metadata": {"x": leaf}} | more))
        return tmp_path

    return make


def test_what_is_damaged_or_leads_elsewhere_is_one_line(described):
    for name in ("../../etc", "", "..", "a/b"):
        with pytest.raises(BadInput, match="no name of an array"):
            read_checkpoint(described(name))
    with pytest.raises(BadInput, match="absent: .*; save it again"):
        read_checkpoint(described("absent"))
    with pytest.raises(BadInput, match="tree_metadata = 3: expected a table"):
        read_checkpoint(described("x", tree_metadata=3))
    folder = described("x")
    (folder / "_METADATA").write_text("{}")
    with pytest.raises(BadInput, match="tree_metadata: missing"):
        read_checkpoint(folder)


def test_an_array_that_says_it_is_endless_fills_no_memory(described):
    folder = described("x")
    (folder / "x").mkdir()
    (folder / "x" / ".zarray").write_text(json.dumps({
        "zarr_format": 2, "shape": [10**12], "chunks": [1024], "dtype": "<f4", "compressor": None, "fill_value": None,
        "order": "C", "filters": None, "dimension_separator": "."}))
    assert is_orbax(folder)
    with pytest.raises(BadInput, match="says that it holds 4,000,000,000,000 bytes"):
        read_checkpoint(folder)
