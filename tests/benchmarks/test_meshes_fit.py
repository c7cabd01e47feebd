"""The meshes that each backend is tried on, and which of them fit a recipe."""

from itertools import chain

import pytest

from tests.benchmarks.test_meshes import described
from tests.pair_of_nobody import foreign
from twinscale.benchmarks import meshes_fit
from twinscale.benchmarks.meshes import prepared
from twinscale.benchmarks.meshes_fit import MESHES, meshes_of, on_mesh


def fitting(recipe, backend):
    return {mesh.name: why for mesh, why in meshes_of(recipe, backend)}


@pytest.mark.parametrize("backend", MESHES)
def test_the_table_holds_what_p6_asks_for(backend):
    table = MESHES[backend]
    assert {1, 2, 4, 8} == {mesh.size for mesh in table} and {1, 2} == {mesh.hosts for mesh in table}
    assert {None, 2, 4} == {mesh.accumulate for mesh in table}
    assert len({mesh.name for mesh in table}) == len(table)
    axes = set(chain.from_iterable(mesh.axes for mesh in table))
    assert axes == ({"data"} if backend == "keras" else {"data", "fsdp", "tensor", "sequence"})
    assert all(mesh.size % mesh.hosts == 0 for mesh in table)


def test_what_does_not_divide_is_left_out_with_its_reason():
    found = fitting(prepared(described("mlp", train={"global_batch": 12}), None), "jax")
    assert "do not divide the 12 rows" in found["data 8"] and found["data 2"] is None and found["fsdp 4"] is None
    assert "train.accumulate=4 does not divide train.global_batch=6" in fitting(
        prepared(described("mlp", train={"global_batch": 6}), None), "keras")["one device, accumulate 4"]


def test_heads_are_shared_by_as_many_as_divide_them(tmp_path):
    found = fitting(prepared(described("decoder", model={"heads": 6, "width": 24}), tmp_path), "jax")
    assert "does not divide model.heads=6" in found["tensor 4"] and found["tensor 2"] is None


def test_images_share_rows_and_weights_alone():
    assert not any("tensor" in name or "sequence" in name for name in fitting(prepared(described(), None), "jax"))


def test_batch_norm_is_compared_where_its_micro_batches_are_as_large():
    recipe = prepared(described("convnet"), None)
    assert "one device, accumulate 4" not in fitting(recipe, "jax")
    bases = [base.name for base in meshes_fit.bases_of(recipe, "jax")]
    assert sorted(bases) == ["one device", "one device, accumulate 2", "one device, accumulate 4"]
    assert [base.name for base in meshes_fit.bases_of(prepared(described(), None), "jax")] == ["one device"]


def test_what_is_one_product_is_shared_by_as_many_as_divide_its_columns(tmp_path):
    """A mesh whose keys would have to be parted is left out with its reason, and no other goes with it."""
    model = {"heads": 4, "kv_heads": 1, "width": 8, "positions": "learned"}
    found = fitting(prepared(described("decoder", model=model, jax={"fused": True}), tmp_path), "jax")
    assert found["tensor 4"].startswith("jax.fused=true: devices.tensor=4 does not divide the 2 columns of keys")
    assert found["tensor 2"] is None and found["data 8"] is None


@pytest.mark.parametrize("asked, alone", [("ring", "auto"), ("cudnn", "auto"), ("splash", "auto"),
                                          ("einsum", "einsum"), ("auto", "auto")])
def test_virtual_devices_attend_as_they_can(tmp_path, asked, alone):
    """A ring where positions are shared; no kernel of an accelerator's, which no CPU has."""
    recipe = prepared(described("decoder", jax={"attention": asked}), tmp_path)
    taken = {mesh.name: on_mesh(recipe, "jax", mesh).jax.attention for mesh in MESHES["jax"]}
    assert taken.pop("sequence 2") == ("ring" if asked == "ring" else alone)
    assert set(taken.values()) == {alone}


@pytest.mark.parametrize("backend", MESHES)
def test_a_mesh_changes_no_batch_and_no_data(backend):
    recipe = prepared(described(devices={"data": 4}), None)  # where the recipe itself would train
    for mesh in MESHES[backend]:
        found = on_mesh(recipe, backend, mesh)
        assert found.train.global_batch == 32 and found.data == recipe.data and found.optimizer == recipe.optimizer
        assert found.devices.data == mesh.axes.get("data", 1)
        assert found.devices.virtual == (8 if mesh.hosts == 1 else mesh.size // 2 if backend == "jax" else 0)


def test_of_programs_of_somebodys_own_micro_batches_are_as_large_and_jumps_are_taken_for_granted(tmp_path):
    recipe = prepared(foreign(tmp_path, train={"global_batch": 16}), None)
    assert meshes_fit.normed(recipe) and recipe.train.precision == "float64"
    assert "one device, accumulate 4" in [mesh.name for mesh in meshes_fit.bases_of(recipe, "jax")]
    assert "one device, accumulate 4" not in fitting(recipe, "jax")
