"""The mesh that a recipe asks for, of which what does not divide is refused by name before any framework starts; its
hash; and a recipe of any keys as text."""

import tomllib
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.recipe.file import RECIPES, dumps, load
from twinscale.common.recipe.schema import Recipe, mesh_shape


def shape(found=8, family="decoder", train=None, **devices):
    model = {"decoder": {"family": "decoder", "width": 64, "heads": 4}, "mlp": {"family": "mlp"}}[family]
    data = {"source": "digits"} if family == "mlp" else {"sequence": 32}
    recipe = Recipe(name="x", model=model, data=data, devices=devices, train={"global_batch": 16, **(train or {})})
    return mesh_shape(recipe, "JAX", found, "cpu")


def test_one_device_unless_told_otherwise():
    assert set(shape().values()) == {1}


def test_data_takes_what_the_other_axes_leave():
    assert shape(data=0) == {"replica": 1, "data": 8, "fsdp": 1, "tensor": 1, "sequence": 1}
    assert shape(data=0, fsdp=2, tensor=2)["data"] == 2 and shape(data=0, tensor=4, found=4)["data"] == 1


@pytest.mark.parametrize("devices,said", [
    ({"data": 4, "fsdp": 4}, "devices.data=4 x devices.fsdp=4 needs 16 devices, but JAX finds 8 (cpu)"),
    ({"data": 0, "tensor": 16}, "needs 16 devices"), ({"sequence": 16}, "needs 16 devices")])
def test_too_few_devices_are_an_error_of_the_environment(devices, said):
    with pytest.raises(MissingEnvironment) as caught:
        shape(**devices)
    assert said in str(caught.value)


@pytest.mark.parametrize("arguments,said", [
    ({"data": 3}, "devices.data=3: 3 shares of a batch do not divide the 16 rows"),
    ({"data": 2, "fsdp": 4, "train": {"accumulate": 4}}, "8 shares of a batch do not divide the 4 rows"),
    ({"tensor": 8}, "does not divide model.heads=4: 8 devices cannot share it"),
    ({"sequence": 5}, "does not divide data.sequence=32"),
    ({"sequence": 2, "family": "mlp"}, "images have no sequence to share")])
def test_what_cannot_be_shared_is_named(arguments, said):
    with pytest.raises(BadInput) as caught:
        shape(**arguments)
    assert said in str(caught.value)


def test_where_a_training_runs_is_not_what_it_computes():
    one = Recipe(name="x", model={"family": "decoder"})
    other = one.with_values(devices={"fsdp": 4, "hosts": 2}, train={"save_minutes": 0.0, "keep_best": 3})
    assert one.meaning == other.meaning and one.hash == one.with_values(devices={"fsdp": 4}).hash


@settings(max_examples=60, deadline=None)
@given(keys=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, unique=True))
def test_keys_of_any_text_are_written_as_toml_has_them(keys):
    """As patterns of tensors' names are, with slashes, stars and brackets."""
    values = {"model": {"shard": {key: ["fsdp", ""] for key in keys}, "rows": [{key: 1 for key in keys}]},
              **{key: {"x": 1} for key in keys if key != "model"}}
    assert tomllib.loads(dumps(SimpleNamespace(model_dump=lambda mode: values))) == values


@pytest.mark.parametrize(("name", "overrides", "begins"), [
    ("mlp-digits", [], "8a752ae10825"), ("mlp-digits", ["optimizer.name=lion"], "07183543df0e"),
    ("decoder-stdlib", [], "c0b68a56b2d8"), ("convnet-mnist5k", [], "bece51be8409")])
def test_recipes_that_name_nothing_of_somebody_elses_are_hashed_as_ever(name, overrides, begins):
    assert load(RECIPES / f"{name}.toml", overrides).hash.startswith(begins)
