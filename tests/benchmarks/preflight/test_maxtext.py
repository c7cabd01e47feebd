"""A recipe under MaxText's names, and what MaxText has not."""

import pytest

from twinscale.benchmarks import preflight as flight
from twinscale.benchmarks.preflight import maxtext
from twinscale.common.errors import BadInput
from twinscale.common.machine.topology import parse
from twinscale.common.recipe.file import load


def asked(topology="v5e:4x4", slices=1, kernel="splash", path="recipes/tpu/decoder-1b.toml", **sections):
    place = parse(topology, slices)
    recipe = flight.placed(load(path).with_values(**sections), place, "jax")
    return maxtext.job(recipe, recipe.data.vocabulary, place, kernel)


def test_a_recipes_sizes_batch_and_mesh_have_maxtexts_names():
    found = asked()
    assert found["shape"] == "4x4"
    wanted = {"compile_topology": "v5e-16", "compile_topology_num_slices": 1, "base_num_decoder_layers": 16,
              "base_emb_dim": 2048, "base_num_query_heads": 16, "base_num_kv_heads": 8, "head_dim": 128,
              "base_mlp_dim": 8192, "vocab_size": 32768, "rope_max_timescale": 10000, "logits_via_embedding": True,
              "normalize_embedding_logits": False, "attention": "flash", "remat_policy": "full", "dtype": "bfloat16",
              "weight_dtype": "float32", "per_device_batch_size": 16, "gradient_accumulation_steps": 1,
              "max_target_length": 2048, "adam_b2": 0.95, "adam_weight_decay": 0.1, "gradient_clipping_threshold": 1.0,
              "ici_fsdp_parallelism": 16, "ici_data_parallelism": 1, "ici_tensor_parallelism": 1, "scan_layers": True}
    assert {key: found["config"][key] for key in wanted} == wanted


def test_what_is_said_otherwise_comes_out_otherwise():
    config = asked("v5p:4x4x4", 2, "einsum", model={"tied": False, "kv_heads": 0, "rotary_base": 5e5},
                   train={"accumulate": 2}, devices={"fsdp": 16, "tensor": 2})["config"]
    assert config["compile_topology"] == "v5p-128" and config["compile_topology_num_slices"] == 2
    assert config["attention"] == "dot_product" and not config["logits_via_embedding"]
    assert config["base_num_kv_heads"] == 16 and config["rope_max_timescale"] == 500_000
    assert [config[f"ici_{axis}_parallelism"] for axis in ("data", "fsdp", "tensor")] == [2, 16, 2]
    assert config["dcn_data_parallelism"] == 2
    # of all devices, in a micro-batch: those that share a matrix product have rows of less than one batch
    assert config["per_device_batch_size"] * 128 * config["gradient_accumulation_steps"] == 256


@pytest.mark.parametrize("key, value, said", [
    ("model.positions", "learned", 'model.positions = "learned": its Llama blocks have "rotary"; set it'),
    ("model.bias", True, "model.bias = true: its Llama blocks have false"),
    ("model.norm", "layer", 'model.norm = "layer"'), ("model.activation", "gelu", 'model.activation = "gelu"'),
    ("model.dropout", 0.1, "model.dropout = 0.1"), ("train.precision", "float32", 'train.precision = "float32"'),
    ("train.label_smoothing", 0.1, "train.label_smoothing = 0.1"), ("jax.remat", "dots", 'jax.remat = "dots"'),
    ("devices.sequence", 2, "devices.sequence = 2"), ("optimizer.ema", 0.9, "optimizer.ema = 0.9"),
    ("optimizer.freeze", ["head.*"], r"optimizer.freeze = \['head.\*'\]")])
def test_what_maxtext_has_not_is_refused_with_its_key(key, value, said):
    table, name = key.split(".")
    changes = {"devices": {"fsdp": 8}} if table == "devices" else {}
    with pytest.raises(BadInput, match=f"^--peers maxtext-compile: {said}.*leave --peers out"):
        asked(**{table: {name: value, **changes.get(table, {})}})


def test_another_optimizer_or_family_is_refused():
    with pytest.raises(BadInput, match='optimizer.name = "lion"'):
        asked(optimizer={"name": "lion"})
    with pytest.raises(BadInput, match='model.family = "mlp"'):
        asked(path="recipes/mlp-digits.toml", train={"global_batch": 32})


@pytest.mark.parametrize("topology, name", [("v5e:4x4", "v5e-16"), ("v4:2x2x1", "v4-8"), ("v6e:2x2", "v6e-4"),
                                            ("tpu7x:2x2x1", "tpu7x-8"), ("v5p:2x2x2", "v5p-16")])
def test_slices_have_the_names_of_google_cloud(topology, name):
    assert maxtext.cloud_name(parse(topology)) == name
    assert parse(name).name == topology
