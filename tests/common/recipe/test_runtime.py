"""What a recipe asks of a runtime."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.recipe.runtime import check_runtime, unread
from twinscale.common.recipe.schema import Recipe


def recipe_of(**sections):
    return Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}, **sections})


@pytest.mark.parametrize("strategy", ["mirrored", "multiworker", "tpu"])
def test_a_strategy_of_tensorflows_is_refused_on_jax_alone(strategy):
    asked = recipe_of(devices={"strategy": strategy})
    with pytest.raises(BadInput) as caught:
        check_runtime(asked, "keras-jax")
    assert str(caught.value) == (f'devices.strategy="{strategy}": tf.distribute\'s strategies are TensorFlow\'s; Keras '
                                 'on JAX lays its arrays on the mesh: set "auto"')
    check_runtime(asked, "keras")
    check_runtime(asked, "jax")


@pytest.mark.parametrize("asked, words", [
    (recipe_of(devices={"tpu": "my-tpu"}), 'devices.tpu="my-tpu"'),
    (Recipe.model_construct(**{**dict(recipe_of()), "train": recipe_of().train.model_copy(
        update={"products": "int8"})}), 'train.products="int8"')])
def test_what_is_anothers_is_refused_by_key_value_and_fix(asked, words):
    with pytest.raises(BadInput) as caught:
        check_runtime(asked, "keras-jax")
    said = str(caught.value)
    assert words in said and "set \"" in said and "\n" not in said
    check_runtime(asked, "jax")


def test_one_device_is_no_strategy_and_jaxs_section_holds():
    check_runtime(recipe_of(devices={"strategy": "one"}, jax={"scan": False, "remat": "full"}), "keras-jax")


def test_what_is_not_read_is_said_and_only_where_it_is_not():
    compiled, stepped = recipe_of(), recipe_of(keras={"jit_compile": False})
    assert "keras.jit_compile=false" in unread(stepped, "keras-jax")
    assert unread(compiled, "keras-jax") is unread(stepped, "keras") is unread(stepped, "jax") is None


def test_products_that_are_flax_layers_are_said_not_to_be_read():
    text = {"data": {"source": "stdlib"}, "model": {"family": "decoder"}}
    fused = recipe_of(**text, jax={"fused": True})
    assert "jax.fused=true" in unread(fused, "keras-jax") and "jit_compile" not in unread(fused, "keras-jax")
    assert unread(fused, "jax") is None is unread(recipe_of(**text), "keras-jax")
