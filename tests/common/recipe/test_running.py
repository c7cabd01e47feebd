"""Which kernel computes attention, and what XLA reads of a recipe when it opens a GPU."""

import re

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.recipe.running import Jax

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


@pytest.mark.parametrize("decodes, length, said", [
    (False, 128, 'jax.loss_chunks=3: of model.family="decoder" alone'),
    (True, 128, "does not divide data.sequence=128")])
def test_chunks_of_a_loss_divide_a_decoders_positions(decodes, length, said):
    with pytest.raises(BadInput, match=re.escape(said)):
        Jax(loss_chunks=3).check_chunks(decodes, length)
    Jax(loss_chunks=3).check_chunks(True, 129)
    Jax().check_chunks(decodes, length)
