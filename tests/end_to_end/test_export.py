"""Models leave the trainer, are loaded by processes that know no more than the files, and compute what it does."""

import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors

from twinscale.benchmarks.workers import ROOMS
from twinscale.common.compress.recipes import dense_recipe, stage_recipe
from twinscale.common.data import open_dataset
from twinscale.common.errors import DID_IT, MISSING, NO, BadInput
from twinscale.common.export import check as export_check
from twinscale.common.export import formats as export_formats
from twinscale.common.export import predict
from twinscale.common.export import write as export
from twinscale.common.export.check import judged, measured, outputs
from twinscale.common.export.formats import Model, Shape
from twinscale.common.export.write import content
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.files.tensors import difference, load_tensors, save_tensors
from twinscale.common.recipe.schema import master_dtype
from twinscale.common.training.canonical import shipped
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import read_run
from twinscale.common.training.stages import make_start, train_stage

GPT2 = {"layers": 1, "width": 16, "heads": 4, "activation": "gelu_tanh", "dropout": 0.1}
LLAMA = {"layers": 1, "width": 16, "heads": 4, "kv_heads": 2, "norm": "rms", "positions": "rotary",
         "activation": "swiglu", "bias": False, "tied": False, "rotary_base": 100.0}
SAVEDMODEL, KERAS, LITERT = {"savedmodel"}, {"keras"}, {"litert-float", "litert-dynamic", "litert-int8"}


@pytest.fixture(scope="module")
def trained(room_of, quickly, recipe_of, tmp_path_factory):
    """trained("jaxscale", "mlp", model={...}): (room, its module `export`, recipe, the directory of a run)."""
    known = {}

    def make(name, family, **sections):
        asked = json.dumps([name, family, sections], sort_keys=True)
        if asked not in known:
            recipe = described(recipe_of, family, **sections)
            run = tmp_path_factory.mktemp("runs") / f"{name}-{family}"
            with quickly(name):
                run_training(room_of(name), recipe, run, progress=False, probe=Probe(trace="full"))
            known[asked] = room_of(name), importlib.import_module(f"twinscale.{name}.export"), recipe, run
        return known[asked]

    return make


def described(recipe_of, family, **sections):
    sections = {"model": {"dropout": 0.25}} | sections
    sections["train"] = {"steps": 3, "global_batch": 16, "precision": "float32"} | sections.get("train", {})
    return recipe_of(family, optimizer={"learning_rate": 0.01, "ema": 0.5}, **sections)


@dataclass
class Exported:
    """An export with what it was made of."""

    room: Any
    recipe: Any
    path: Path
    code: int
    model: Model

    @property
    def rows(self):
        return {row["format"]: row for row in json.loads((self.path / "export.json").read_text())["formats"]}


def model_of(recipe, run=None):
    """The Model that a run's trace ends with, or of first values."""
    dataset = open_dataset(recipe)
    if run:
        tensors = shipped(recipe, load_tensors(run / "trace" / "final.safetensors"))
    else:
        tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
        tensors = initial_values(tree, recipe.seed, master_dtype(recipe))
    return Model(dense_recipe(recipe), Shape(dataset.classes, dataset.example_shape), tensors)


@pytest.fixture(scope="module")
def exports(trained, tmp_path_factory):
    """{backend: Exported}: a decoder of GPT-2's shape by Keras and one of Llama's by JAX, in every format."""
    found = {}
    for name, model in (("tfscale", GPT2), ("jaxscale", LLAMA)):
        room, exporter, recipe, run = trained(name, "decoder", model=model)
        out = tmp_path_factory.mktemp("export") / name
        code = export.export(room, exporter, run, out)
        found[room.backend] = Exported(room, recipe, out, code, model_of(recipe, run))
    return found


def test_every_format_is_loaded_by_another_process_and_agrees(exports):
    for backend, formats in (("keras", SAVEDMODEL | KERAS), ("jax", {"stablehlo"})):
        made = exports[backend]
        assert made.rows.keys() == formats | LITERT | {"safetensors"} and made.code == DID_IT
        for name, row in made.rows.items():
            said = row["checked"]
            assert said["agrees"] and 0 <= said["worst"] <= said["bound"] < 0.1 and said["bound_from"], (name, said)
            assert said["bound"] < 1e-4 or name in ("litert-dynamic", "litert-int8")
            assert row["sha256"] == content(made.path / row["path"]) and 0 < row["zipped_bytes"] < row["bytes"]
            assert row["batch"] == (1 if name in LITERT else "any")
        assert made.rows["safetensors"]["checked"]["bitwise"]
        assert not [path for path in made.path.rglob("*") if path.name.endswith(".tmp")]


def test_the_products_of_weights_are_integers_and_counted_in_the_file(exports):
    for made in exports.values():
        weights = sum(name.endswith(".kernel") for name in made.model.tensors) + made.recipe.model.tied
        layers = made.recipe.model.layers
        counted = {name: made.rows[name]["operators"] for name in LITERT}
        assert counted["litert-int8"]["products"] == {"int8": weights, "hybrid": 0, "float": 2 * layers}  # attention
        assert counted["litert-float"]["int8"] == counted["litert-float"]["hybrid"] == 0
        for found in counted.values():
            assert found["total"] == sum(found["by_name"].values()) == sum(
                found[kind] for kind in ("int8", "hybrid", "float", "other"))
            assert not any(name.startswith("Flex") for name in found["by_name"])


# ---- the layouts, by the papers' equations

def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def attention(q, k, v):
    """softmax(q k^T / sqrt(d) + causal mask) v of one head (Vaswani et al. 2017), each (B, T, d)."""
    scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
    return softmax(np.where(np.tri(q.shape[1]), scores, -np.inf)) @ v


def gpt2(w, c, ids):
    """Radford et al. 2019, of the library's tensors and config.json."""
    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c["layer_norm_epsilon"]) * w[f"{name}.weight"] + w[
            f"{name}.bias"]

    def gelu_new(x):
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def conv1d(name, x):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    assert c["activation_function"] == "gelu_new"
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:ids.shape[1]]
    for i in range(c["n_layer"]):
        h = f"transformer.h.{i}"
        q, k, v = np.split(conv1d(f"{h}.attn.c_attn", norm(f"{h}.ln_1", x)), 3, -1)
        heads = zip(*(np.split(part, c["n_head"], -1) for part in (q, k, v)), strict=True)
        x = x + conv1d(f"{h}.attn.c_proj", np.concatenate([attention(*head) for head in heads], -1))
        x = x + conv1d(f"{h}.mlp.c_proj", gelu_new(conv1d(f"{h}.mlp.c_fc", norm(f"{h}.ln_2", x))))
    return norm("transformer.ln_f", x) @ w["transformer.wte.weight"].T


def llama(w, c, ids):
    """Touvron et al. 2023, of the library's tensors and config.json; rotary positions as complex numbers (Su et al.
    2021), a head's first half the real parts."""
    def norm(name, x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c["rms_norm_eps"]) * w[f"{name}.weight"]

    def linear(name, x):
        return x @ w[f"{name}.weight"].T

    def rotated(x):
        half = c["head_dim"] // 2
        angles = np.outer(np.arange(ids.shape[1]), c["rope_theta"] ** (-2 * np.arange(half) / c["head_dim"]))
        turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
        return np.concatenate([turned.real, turned.imag], -1)

    x = w["model.embed_tokens.weight"][ids]
    for i in range(c["num_hidden_layers"]):
        h, heads, kv = f"model.layers.{i}", c["num_attention_heads"], c["num_key_value_heads"]
        y = norm(f"{h}.input_layernorm", x)
        q, k, v = (np.split(linear(f"{h}.self_attn.{name}_proj", y), count, -1)
                   for name, count in (("q", heads), ("k", kv), ("v", kv)))
        mixed = [attention(rotated(q[j]), rotated(k[j * kv // heads]), v[j * kv // heads]) for j in range(heads)]
        x = x + linear(f"{h}.self_attn.o_proj", np.concatenate(mixed, -1))
        y = norm(f"{h}.post_attention_layernorm", x)
        gate = linear(f"{h}.mlp.gate_proj", y)
        x = x + linear(f"{h}.mlp.down_proj", gate / (1 + np.exp(-gate)) * linear(f"{h}.mlp.up_proj", y))
    return norm("model.norm", x) @ w["lm_head.weight"].T


@pytest.mark.parametrize("backend, equations", [("keras", gpt2), ("jax", llama)])
def test_the_papers_equations_read_the_layout_as_the_trainer_its_weights(exports, backend, equations):
    made = exports[backend]
    folder = made.path / "safetensors"
    said = json.loads((folder / "config.json").read_text())
    assert made.rows["safetensors"]["layout"] == said["model_type"] == equations.__name__
    weights = {name: x.astype(np.float64) for name, x in safetensors.load_file(folder / "model.safetensors").items()}
    ids = np.random.default_rng(0).integers(0, made.model.shape.classes, (4, *made.model.shape.example_shape))
    exporter = importlib.import_module(f"{ROOMS[backend]}.export")
    with made.room.numerics(made.recipe):
        ours = exporter.logits(made.model.recipe, made.model.shape, made.model.tensors, ids.astype(np.int32))
    assert difference(equations(weights, said, ids), ours) <= made.rows["safetensors"]["checked"]["bound"]


# ---- what is held to what

@pytest.mark.parametrize("name", ["tfscale", "jaxscale"])
def test_what_an_export_is_held_to_is_what_the_training_ended_with(trained, name):
    """Averaged weights and no dropout: the held-out loss of the run itself, over all held-out rows."""
    room, exporter, recipe, run = trained(name, "mlp")
    model, dataset = model_of(recipe, run), open_dataset(recipe)
    batch = dataset.held_out.take(np.arange(len(dataset.held_out)))
    with room.numerics(recipe):
        found = exporter.logits(model.recipe, model.shape, model.tensors, batch["inputs"])
    assert measured(model.recipe, found, batch) == pytest.approx(read_run(run)["final"]["loss"], rel=1e-5)


@pytest.fixture(scope="module")
def staged(room_of, recipe_of, tmp_path_factory):
    """staged("jaxscale", "convnet"): (room, exporter, recipe, run) of a stage that quantises first values."""
    def make(name, family):
        room, exporter = room_of(name), importlib.import_module(f"twinscale.{name}.export")
        recipe, path = described(recipe_of, family), tmp_path_factory.mktemp("stage")
        save_tensors(path / "left.safetensors", model_of(recipe).tensors)
        stages = [{"kind": "quantize", "steps": 3, "calibrate": 2, "learning_rate": 0.01}]
        recipe = stage_recipe(recipe.with_values(compress={"stages": stages}), 0)
        make_start(room, recipe, path / "left.safetensors", path / "start.safetensors")
        train_stage(room, recipe, path / "run", path / "start.safetensors", probe=Probe(trace="full"), progress=False)
        return room, exporter, recipe, path / "run"

    return make


@pytest.mark.parametrize("name, family", [pytest.param("tfscale", "convnet", marks=pytest.mark.slow),
                                          ("jaxscale", "mlp")])
def test_8_bits_are_held_to_what_the_stage_ended_with_and_become_integers(staged, name, family, tmp_path):
    """The trainer's program in 8 bits has the stage's own held-out loss, and its LiteRT file, in integers throughout,
    is as near to it as the bound says."""
    room, exporter, recipe, run = staged(name, family)
    state = load_tensors(run / "trace" / "final.safetensors")
    model, dataset = model_of(recipe, run), open_dataset(recipe)
    eight = export.in_eight_bits(room, recipe, dataset, state, model)
    rows = dataset.held_out.take(np.arange(len(dataset.held_out)))
    known = outputs(room, exporter, model, eight, rows["inputs"])
    assert measured(model.recipe, known["8 bits"], rows) == pytest.approx(read_run(run)["final"]["loss"], rel=1e-5)

    from twinscale.tfscale.export import write
    from twinscale.tfscale.predict import load

    more = write("litert-int8", eight.recipe, eight.shape, eight.tensors, tmp_path / "int8.tflite")
    assert more["note"] == "ranges of quantisation-aware training"
    kernels = sum(tensor.endswith(".kernel") for tensor in model.tensors)
    assert more["operators"]["products"] == {"int8": kernels, "hybrid": 0, "float": 0}
    assert more["operators"]["float"] == 0  # batch norm is in the convolutions
    found = load("litert-int8", tmp_path / "int8.tflite")(rows["inputs"])
    said = judged("litert-int8", model, eight, found, known, rows)
    assert said["agrees"] and said["predictions"] > 0.9, said
    # Zero points that are lost, as by a runtime that forgets them, are seen.
    assert not judged("litert-int8", model, eight, found + 0.2 * np.abs(found).max(), known, rows)["agrees"]


@pytest.mark.parametrize("name, form", [("tfscale", "savedmodel"), ("jaxscale", "stablehlo")])
def test_an_export_of_slightly_other_weights_does_not_agree(room_of, recipe_of, tmp_path, name, form):
    room, model = room_of(name), model_of(described(recipe_of, "mlp"))
    exporter, reader = (importlib.import_module(f"twinscale.{name}.{module}") for module in ("export", "predict"))
    rows = export_check.held_out_rows(open_dataset(model.recipe))
    known = outputs(room, exporter, model, None, rows["inputs"])
    for factor, agrees in ((1, True), (1 + 1e-4, False)):
        tensors = model.tensors | {"layer_0.kernel": model.tensors["layer_0.kernel"] * np.float32(factor)}
        with room.numerics(model.recipe):
            exporter.write(form, model.recipe, model.shape, tensors, tmp_path / str(factor))
        found = reader.load(form, tmp_path / str(factor))(rows["inputs"])
        assert judged(form, model, None, found, known, rows)["agrees"] is agrees


@pytest.mark.parametrize("activation", ["gelu", pytest.param("gelu_tanh", marks=pytest.mark.slow)])
def test_a_keras_file_brings_our_layers_and_activations(room_of, recipe_of, tmp_path, activation):
    """Not Keras' own of the same names, which round otherwise: in float64 that is seen."""
    from twinscale.tfscale import export as exporter
    from twinscale.tfscale.predict import load

    model = model_of(described(recipe_of, "decoder", model={**GPT2, "activation": activation},
                               train={"precision": "float64"}))
    rows = export_check.held_out_rows(open_dataset(model.recipe))
    exporter.write("keras", model.recipe, model.shape, model.tensors, tmp_path / "model.keras")
    found = load("keras", tmp_path / "model.keras")(rows["inputs"])
    said = judged("keras", model, None, found, outputs(room_of("tfscale"), exporter, model, None, rows["inputs"]), rows)
    assert found.dtype == np.float64 and said["agrees"] and said["bound"] < 1e-13, said


# ---- what goes wrong

def test_without_tensorflow_the_rest_is_exported_and_what_is_lost_is_said(trained, tmp_path, monkeypatch):
    room, exporter, recipe, run = trained("jaxscale", "mlp")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorflow" else find(name))
    assert export.export(room, exporter, run, tmp_path / "out") == MISSING
    rows = {row["format"]: row for row in json.loads((tmp_path / "out" / "export.json").read_text())["formats"]}
    assert {name for name, row in rows.items() if row["path"]} == {"stablehlo", "safetensors"}
    assert all(rows[name]["checked"]["agrees"] for name in ("stablehlo", "safetensors"))
    assert all("tensorflow is not installed" in rows[name]["reason"] for name in LITERT)
    assert rows["safetensors"]["layout"] is None


def test_a_format_that_cannot_be_written_takes_no_other_with_it(trained, tmp_path, monkeypatch):
    room, exporter, recipe, run = trained("jaxscale", "mlp")

    def cannot(name, *_):
        raise ValueError("no such operation\nand a page of more")

    monkeypatch.setattr(exporter, "write", cannot)
    code = export.export(room, exporter, run, tmp_path / "out", ("stablehlo", "safetensors"))
    rows = {row["format"]: row for row in json.loads((tmp_path / "out" / "export.json").read_text())["formats"]}
    assert code == NO and rows["safetensors"]["checked"]["agrees"]
    assert rows["stablehlo"] == {"format": "stablehlo", "path": None, "missing": None, "reason": "no such operation"}


def test_a_run_without_a_checkpoint_is_refused_and_what_was_there_stays(room_of, recipe_of, tmp_path):
    room, recipe = room_of("jaxscale"), described(recipe_of, "mlp")
    run_training(room, recipe, tmp_path / "run", progress=False, probe=Probe(stop=1, saved=False))
    (tmp_path / "out").mkdir()
    for name in (export_formats.MARKER, "export.json"):
        (tmp_path / "out" / name).write_text("before")
    with pytest.raises(BadInput, match="has no checkpoint yet"):
        export.export(room, importlib.import_module("twinscale.jaxscale.export"), tmp_path / "run", tmp_path / "out",
                      overwrite=True)
    assert (tmp_path / "out" / "export.json").read_text() == "before"


# ---- predict

@pytest.mark.parametrize("backend, name", [("keras", None), ("keras", "litert-int8"), ("jax", "stablehlo")])
def test_predict_continues_a_text_as_the_trainer_would(exports, backend, name, tmp_path, capfd):
    made = exports[backend]
    (tmp_path / "a.txt").write_text("abcd")
    predict.predict(made.path, tmp_path / "a.txt", name, top=257)
    said = json.loads(capfd.readouterr().out)
    exporter = importlib.import_module(f"{ROOMS[backend]}.export")
    ids = np.full((1, 16), 256, np.int32)
    ids[0, :4] = 97, 98, 99, 100
    with made.room.numerics(made.recipe):
        ours = exporter.logits(made.model.recipe, made.model.shape, made.model.tensors, ids)[0, 3]
    chances = softmax(ours.astype(np.float64))
    for found in said["next"]:
        assert found["probability"] == pytest.approx(chances[found["id"]], rel=0.2 if name == "litert-int8" else 1e-4)
    assert said["tokens"] == 4 and sum(found["probability"] for found in said["next"]) == pytest.approx(1)


def test_a_keras_file_with_code_in_it_is_not_loaded(tmp_path):
    import keras

    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "model.keras")
    with pytest.raises(BadInput, match="model.keras: cannot be loaded"):
        predict.function_of(predict.open_export(tmp_path / "model.keras"))


def test_a_torn_file_is_one_line(tmp_path):
    for name in ("float.tflite", "model.stablehlo", "model.keras"):
        (tmp_path / name).write_bytes(b"torn")
        with pytest.raises(BadInput, match=f"{name}: cannot be loaded") as raised:
            predict.function_of(predict.open_export(tmp_path / name))
        assert "\n" not in str(raised.value)
