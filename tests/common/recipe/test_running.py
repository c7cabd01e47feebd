"""Which kernel computes attention, and what XLA reads of a recipe when it opens a GPU."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.recipe.running import Jax
from twinscale.common.recipe.schema import Recipe

GPU = {"platform": "gpu", "capability": "8.0"}


def asked(name, **changes):
    values = {"precision": "bfloat16", "width": 64, "length": 1024, "documents": True, "platform": "cpu"}
    return Jax(attention=name).kernel(**{**values, **changes})


@pytest.mark.parametrize("kernel, where", [
    ("einsum", {}), ("cudnn", GPU), ("cudnn", {**GPU, "capability": "12.0"}), ("splash", {"platform": "tpu"}),
    ("splash", {"platform": "tpu", "sequence": 8}), ("cudnn", {**GPU, "length": 1023, "documents": False}),
    *(("einsum", {**GPU, **lack}) for lack in (
        {"capability": "7.5"}, {"capability": "gfx942"}, {"capability": None}, {"precision": "float32"},
        {"width": 60}, {"width": 136}, {"length": 1023}, {"sequence": 2})),
    ("einsum", {"platform": "tpu", "length": 1000}), ("einsum", {"platform": "tpu", "sequence": 16}),
    ("einsum", {"platform": "tpu", "precision": "float64"})])
def test_auto_takes_what_can_run(kernel, where):
    assert asked("auto", **where) == kernel == asked(kernel, **where)
    assert asked("einsum", **where) == "einsum"
    for other in {"cudnn", "splash"} - {kernel}:
        with pytest.raises(BadInput, match=f"jax.attention={other}: needs .*, this is .*; set auto"):
            asked(other, **where)


def test_memory_is_as_the_recipe_says_unless_the_environment_does():
    preallocate, fraction = "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_CLIENT_MEM_FRACTION"
    assert Jax().environment({}) == {}
    less = Jax(preallocate=False, memory_fraction=0.5)
    assert less.environment({}) == {preallocate: "false", fraction: "0.5"}
    assert less.environment({preallocate: "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}) == {}
    assert less.environment({fraction: "0.9"}) == {preallocate: "false"}


@pytest.mark.parametrize("family, execution, wrong", [
    ("decoder", {"remat": "full", "remat_save": ["attention.quary"]},
     r'jax.remat_save: "attention.quary": no such place of a block; there are norm_1, attention.query, .*did you mean '
     '"attention.query"'),
    ("decoder", {"remat": "full", "remat_offload": ["block_0.norm_1"]}, 'jax.remat_offload: "block_0.norm_1": no such'),
    ("decoder", {"remat": "full", "remat_save": ["norm"]}, 'jax.remat_save: "norm": no such place'),
    ("mlp", {"remat": "full", "remat_save": ["head"]}, 'jax.remat_save: "head": .*family="mlp" has no blocks'),
    ("decoder", {"remat": "dots", "remat_save": ["norm_1"]}, r'jax.remat_save=\[\'norm_1\'\]: jax.remat="dots" says'),
    ("decoder", {"remat_offload": ["norm_1"]}, 'set jax.remat="full"'),
    ("decoder", {"remat": "full", "remat_save": ["norm_1"], "remat_offload": ["norm_1"]}, '"norm_1" is in both')])
def test_names_that_nothing_is_kept_by_are_refused(family, execution, wrong):
    """With the names that there are, before anything is compiled."""
    with pytest.raises(ValueError, match=wrong):
        Recipe.model_validate({"name": "any", "model": {"family": family}, "jax": execution})


def test_places_are_kept_by_their_names_within_a_block():
    names = {"remat": "full", "remat_save": ["attention.query", "residual_1"], "remat_offload": ["feedforward.up"]}
    recipe = Recipe.model_validate({"name": "any", "model": {"family": "decoder"}, "jax": names})
    assert recipe.jax.named == ("attention.query", "residual_1", "feedforward.up")
    assert recipe.meaning == recipe.with_values(jax=Jax().model_dump()).meaning
