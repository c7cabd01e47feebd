"""Which kernel computes attention, and what XLA reads of a recipe when it opens a GPU."""

import re

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.recipe.running import Jax, Splash
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
    for other in {"cudnn", "splash", "ring"} - {kernel} - ({"ring"} if "sequence" in where else set()):
        with pytest.raises(BadInput, match=f"jax.attention={other}: needs .*, this is .*; set auto"):
            asked(other, **where)


@pytest.mark.parametrize("lack, needs", [
    ({}, "devices.sequence of 2 or more, this is 1;"),
    ({"sequence": 3}, "data.sequence a multiple of devices.sequence, this is 1024 / 3;")])
def test_a_ring_wants_devices_that_share_positions(lack, needs):
    """In any precision, anywhere; and it is asked for by its name."""
    with pytest.raises(BadInput, match=f"jax.attention=ring: needs {needs} set auto"):
        asked("ring", **lack)
    for where in ({}, {"platform": "tpu", "length": 24}, {**GPU, "precision": "float64"}):
        assert (asked("ring", sequence=4, **where), asked("auto", sequence=4, **where)) == ("ring", "einsum")


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
    Jax().check_chunks(decodes, length, "probe")
    with pytest.raises(BadInput, match='jax.loss_chunks=3: objective.name="probe" may go by where in its row'):
        Jax(loss_chunks=3).check_chunks(True, 129, "probe")


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


@pytest.mark.parametrize("model, wrong", [
    ({"family": "mlp"}, 'jax.fused=true: model.family="mlp" has no blocks of attention; leave it out'),
    ({"family": "decoder", "width": 32, "heads": 16, "kv_heads": 1}, "devices.tensor=4 does not divide the 2 columns")])
def test_products_that_cannot_be_one_are_refused(model, wrong):
    with pytest.raises(ValueError, match=re.escape(wrong)):
        Recipe.model_validate({"name": "any", "model": model, "jax": {"fused": True}, "devices": {"tensor": 4}})


def test_places_are_kept_by_their_names_within_a_block():
    names = {"remat": "full", "remat_save": ["attention.query", "residual_1"], "remat_offload": ["feedforward.up"]}
    recipe = Recipe.model_validate({"name": "any", "model": {"family": "decoder"}, "jax": names})
    assert recipe.jax.named == ("attention.query", "residual_1", "feedforward.up")
    assert recipe.meaning == recipe.with_values(jax=Jax().model_dump()).meaning


def test_blocks_of_attention_are_as_large_as_divides_unless_the_recipe_says():
    names = {"block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute",
             "block_q_dq", "block_kv_dq"}
    for length, sequence, size in ((1024, 1, 512), (1024, 4, 256), (384, 1, 128)):
        assert Splash().sizes(length, sequence) == dict.fromkeys(names, size) | {"use_fused_bwd_kernel": False}
    own = Splash(block_kv=1024, block_kv_dkv=512, block_kv_dkv_compute=256, use_fused_bwd_kernel=True).sizes(1024, 2)
    assert own == dict.fromkeys(names - {"block_q_dq", "block_kv_dq"}, 512) | {
        "block_kv": 1024, "block_kv_compute": 1024, "block_kv_dkv_compute": 256, "use_fused_bwd_kernel": True}


@pytest.mark.parametrize("values, wrong", [
    ({"block_q": 384}, r"block_q=384: wants a multiple of 128 that divides data.sequence / devices.sequence, .* 512;"),
    ({"block_q_dq": 1024}, "block_q_dq=1024: .* which is 512"), ({"block_kv": 96}, "block_kv=96: .*, which is 1024"),
    ({"block_kv": 512, "block_kv_compute": 384}, "block_kv_compute=384: .* that divides jax.splash.block_kv=512"),
    ({"block_kv_dq": 128, "use_fused_bwd_kernel": True}, "block_kv_dq=128: jax.splash.use_fused_bwd_kernel=true has")])
def test_blocks_that_do_not_divide_are_refused(values, wrong):
    """Before anything is compiled: where it is asked which kernel runs."""
    execution = Jax.model_validate({"splash": values})
    with pytest.raises(BadInput, match=f"jax.splash.{wrong}"):
        execution.kernel("bfloat16", 64, 1024, True, "tpu", sequence=2)
    assert execution.kernel("bfloat16", 64, 1024, True, "cpu") == "einsum"
