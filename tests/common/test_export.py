"""Exports without a framework: what is asked for, layouts, bounds and verdicts, and what predict reads and refuses."""

import json
import math
import os
import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import numpy as safetensors

from twinscale.common import export, export_check, export_formats, export_process, hugging_face, predict
from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.errors import BadInput, CannotSave, Hung, MissingEnvironment, Stopped, TwinscaleError
from twinscale.common.export import content
from twinscale.common.export_check import bound_of, judged
from twinscale.common.export_formats import Model, Shape, check_request, lacking, lines
from twinscale.common.files import place, write_json, write_text
from twinscale.common.parameters import initial_values, parameters
from twinscale.common.recipe import Recipe
from twinscale.common.recipe_file import dumps
from twinscale.common.tensors import difference, save_tensors

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
GPT2 = {"layers": 2, "width": 16, "heads": 4}
LLAMA = {**GPT2, "kv_heads": 2, "norm": "rms", "positions": "rotary", "activation": "swiglu", "bias": False}


def recipe_of(family="decoder", precision="float32", **model):
    source = "stdlib" if family == "decoder" else "digits"
    return Recipe.model_validate({"name": "x", "data": {"source": source, "sequence": 8}, "train": {
        "precision": precision}, "model": {"family": family, **(GPT2 if family == "decoder" else {}), **model}})


def model_of(recipe, classes=20, example_shape=(8,)):
    tree = parameters(recipe.model, classes, example_shape)
    return Model(recipe, Shape(classes, example_shape), initial_values(tree, 0, "float32"))


# ---- what is asked for

def test_without_names_a_backend_exports_all_that_it_has(tmp_path):
    keras, jax = (check_request(backend, tmp_path / "new", (), False) for backend in ("keras", "jax"))
    assert set(keras) | set(jax) == set(export_formats.FORMATS)
    assert "savedmodel" in keras and "stablehlo" not in keras and "stablehlo" in jax and "keras" not in jax


@pytest.mark.parametrize("names, said", [(("onnx",), "is no format; known: savedmodel"),
                                         (("litert-int",), 'did you mean "litert-int8"?'),
                                         (("savedmodel",), "not of jax runs, which have stablehlo")])
def test_a_format_that_is_not_there_is_refused(tmp_path, names, said):
    with pytest.raises(BadInput, match=said):
        check_request("jax", tmp_path / "new", names, False)


@pytest.mark.parametrize("checked, again", [({"agrees": True}, False), (None, True), ("nothing is there", True)])
def test_what_was_killed_passes_for_no_export_and_is_made_again_without_a_word(tmp_path, checked, again):
    write_json(tmp_path / ".export", {"verb": "export"})
    row = {"format": "safetensors", "path": "safetensors", "sha256": "0", "checked": checked}
    if checked != "nothing is there":
        write_json(tmp_path / "export.json", {"schema_version": 1, "backend": "jax", "family": "mlp", "tokenizer": None,
                                              "classes": 10, "example_shape": [8, 8, 1], "formats": [row]})
    if again:
        assert check_request("jax", tmp_path, ("safetensors",), False) == ["safetensors"]
        with pytest.raises(BadInput, match="cut short before it was checked; run the same|cannot be read"):
            export_formats.read_export(tmp_path)
    else:
        with pytest.raises(BadInput, match="holds a finished result"):
            check_request("jax", tmp_path, ("safetensors",), False)


@pytest.mark.parametrize("error, kind", [(OSError(28, "No space left on device"), CannotSave),
                                         (MemoryError(), MissingEnvironment), (ValueError("odd"), None)])
def test_a_machine_that_has_no_more_is_no_format_that_cannot_be_written(tmp_path, monkeypatch, error, kind):
    def write(*_):
        raise error

    monkeypatch.setattr(hugging_face, "write", write)
    model = model_of(recipe_of("mlp"), 10, (8, 8, 1))
    room = SimpleNamespace(backend="jax")
    with pytest.raises(kind) if kind else nullcontext():
        found = export.write_all(room, SimpleNamespace(), ["safetensors"], model, None, tmp_path, tmp_path)
        assert kind is None and found == {"safetensors": error}
    with pytest.raises(kind) if kind else nullcontext():  # as a process of ours says it
        assert str(export_process.failed({"error": str(error) or "MemoryError"})) == "odd"


def test_a_directory_that_is_not_ours_is_refused_whatever_is_asked(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(BadInput, match="--to .*not empty and not ours"):
            check_request("jax", tmp_path, (), overwrite)
    (tmp_path / export_formats.MARKER).touch()
    with pytest.raises(BadInput, match="--overwrite"):
        check_request("jax", tmp_path, (), False)
    assert check_request("jax", tmp_path, ("stablehlo",), True) == ["stablehlo"]
    with pytest.raises(BadInput, match="write to a disk"):
        check_request("jax", place("gs://bucket/x"), (), False)


def test_what_is_lost_without_a_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("tensorflow", "tf_keras") else name)
    assert [lacking(name, "jax") for name in ("stablehlo", "safetensors")] == [None, None]
    assert {lacking(name, "jax") for name in ("litert-float", "litert-int8")} == {"tensorflow"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tf_keras" else name)
    assert lacking("litert-float", "keras") is None and lacking("litert-int8", "jax") == "tf_keras"
    assert lacking("litert-dynamic", "keras") == "tf_keras"  # by which its bound is measured


def test_a_run_says_who_made_it(tmp_path):
    (tmp_path / "index.json").write_text('{"backend": "jax"}')
    assert export_formats.made_by(tmp_path) == "jax"
    for broken in ('{"backend": "torch"}', "{", "[]"):
        (tmp_path / "index.json").write_text(broken)
        with pytest.raises(BadInput, match="convert the run again"):
            export_formats.made_by(tmp_path)


# ---- layouts

@pytest.mark.parametrize("model, name", [
    (GPT2, "gpt2"), ({"activation": "gelu_tanh", "tied": False}, "gpt2"), (LLAMA, "llama"),
    ({**LLAMA, "bias": True, "tied": False}, "llama")])
def test_a_layout_holds_every_tensor_bit_for_bit(tmp_path, model, name):
    made = model_of(recipe_of(**model))
    assert hugging_face.write(made.recipe, made.shape, made.tensors, tmp_path)["layout"] == name
    stored = safetensors.load_file(tmp_path / "model.safetensors")
    assert sum(x.size for x in stored.values()) == sum(x.size for x in made.tensors.values())
    assert export_check.equal(hugging_face.read(made.recipe.model, tmp_path), made.tensors)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["model_type"] == name and said["vocab_size"] == 20
    assert said["tie_word_embeddings"] == ("lm_head.weight" not in stored)


def test_names_and_shapes_are_the_librarys(tmp_path):
    gpt2, llama = model_of(recipe_of(**GPT2)), model_of(recipe_of(**LLAMA))
    found = hugging_face.to_layout("gpt2", gpt2.recipe.model, gpt2.tensors)
    assert found["transformer.h.1.attn.c_attn.weight"].shape == (16, 48)  # (inputs, outputs)
    assert {"transformer.wte.weight", "transformer.wpe.weight", "transformer.ln_f.bias",
            "transformer.h.0.mlp.c_proj.bias"} <= found.keys()
    found = hugging_face.to_layout("llama", llama.recipe.model, llama.tensors)
    assert found["model.layers.0.self_attn.k_proj.weight"].shape == (8, 16)  # (outputs, inputs)
    assert found["model.layers.1.mlp.gate_proj.weight"].shape == (64, 16) and "model.norm.weight" in found


@pytest.mark.parametrize("family, model, said", [
    ("mlp", {}, "no layout is known for a mlp"), ("decoder", {"bias": False}, "gpt2, .* has no model.bias=False"),
    ("decoder", {"kv_heads": 2}, "gpt2, .* has no model.kv_heads=2"),
    ("decoder", {**LLAMA, "activation": "gelu"}, "llama, .* has no model.activation='gelu'")])
def test_what_has_no_layout_says_why_and_keeps_its_names(tmp_path, family, model, said):
    made = model_of(recipe_of(family, **model), example_shape=(8,) if family == "decoder" else (4, 4, 1))
    more = hugging_face.write(made.recipe, made.shape, made.tensors, tmp_path)
    assert more["layout"] is None and re.search(said, more["note"])
    assert not (tmp_path / "config.json").exists()
    assert safetensors.load_file(tmp_path / "model.safetensors").keys() == made.tensors.keys()


# ---- bounds and verdicts

RNG = np.random.default_rng(0)
WIDE = RNG.standard_normal((16, 20))
ROWS = {"inputs": np.zeros(16), "labels": np.arange(16), "weights": np.ones(16, np.float32)}


def known_of(noise=0.0, eight=0.0):
    moved = {"float32": noise, "8 bits": eight}
    return {"float64": WIDE} | {name: WIDE + size * np.abs(WIDE).max() * np.sign(RNG.standard_normal(WIDE.shape))
                                for name, size in moved.items()}


def eight_of(low=-10.0, high=10.0):
    return SimpleNamespace(tensors={"head.range": np.array([low, high])})


def test_float_bounds_are_four_times_the_trainers_own_rounding_but_no_less_than_arithmetics():
    model = model_of(recipe_of())  # the longest sum is of 64 hidden units
    bound, source = bound_of("savedmodel", "float32", model, None, known_of(1e-5))
    assert bound == pytest.approx(4e-5) and "4 x what float32 costs" in source
    bound, source = bound_of("savedmodel", "float32", model, None, known_of())
    assert bound == 4 * 8 * EPS["float32"] and source == "4 sqrt(64) eps of float32"
    bound, _ = bound_of("savedmodel", "float64", model, None, known_of(1e-5))
    assert bound == pytest.approx(4e-5 * EPS["float64"] / EPS["float32"])
    known = known_of() | {"bfloat16": known_of(1e-5)["float32"]}
    assert bound_of("stablehlo", "bfloat16", model, None, known)[0] == 2.0**-8  # sums are float32: one rounding


def test_bounds_of_8_bits_are_what_8_bits_cost_the_trainer():
    model, largest = model_of(recipe_of()), np.abs(WIDE).max()
    known = known_of(eight=0.01)
    dynamic, _ = bound_of("litert-dynamic", "float32", model, eight_of(), known)
    int8, source = bound_of("litert-int8", "8 bits", model, eight_of(), known)
    assert dynamic == pytest.approx(0.01) and "one step of the output's grid" in source
    assert int8 - dynamic == pytest.approx(20 / 255 / np.abs(known["8 bits"]).max())
    # A logit beyond its range is clipped in 8 bits: what that costs is no rounding, and excuses none.
    high = largest / 2
    known["8 bits"] = np.clip(WIDE, -high, high)
    assert bound_of("litert-dynamic", "float32", model, eight_of(-high, high), known)[0] == 0


def test_a_verdict_fails_where_the_logits_do():
    model, known = model_of(recipe_of()), known_of()

    def verdict(found):
        return judged("savedmodel", model, None, found, known, ROWS)

    right, moved = verdict(WIDE), WIDE.copy()
    assert right["agrees"] and right["worst"] == 0 and right["predictions"] == 1 and right["rows"] == 16
    moved[3, 4] += 1e-4 * np.abs(WIDE).max()
    assert not verdict(moved)["agrees"] and verdict(moved)["worst"] == pytest.approx(1e-4)
    moved[3, 4] = math.nan
    for wrong in (moved, WIDE[:8], WIDE[::-1]):
        assert not verdict(wrong)["agrees"]
    failed = verdict(ValueError("first\nsecond"))
    assert not failed["agrees"] and failed["error"] == "first" and failed["worst"] == math.inf


def test_the_table_says_what_is_lost():
    row = {"format": "litert-int8", "path": "int8.tflite", "bytes": 12345, "zipped_bytes": 999, "operators": {
        "int8": 4, "total": 6}, "checked": {"worst": 0.01, "bound": 0.02, "agrees": True, "error": None}}
    lost = {"format": "keras", "path": None, "missing": "keras", "reason": "keras is not installed"}
    said = lines({"formats": [row, lost]})
    assert "12,345" in said[1] and said[1].endswith("4 of 6")
    assert said[2].endswith("not exported: keras is not installed")


# ---- predict

@pytest.fixture
def exported(tmp_path):
    """exported(family): the directory of an export whose one format is a file that nothing loads."""

    def make(family="decoder"):
        recipe, text = recipe_of(family), family == "decoder"
        write_text(tmp_path / "recipe.toml", dumps(recipe))
        (tmp_path / "float.tflite").write_bytes(b"x")
        row = {"format": "litert-float", "path": "float.tflite", "sha256": content(tmp_path / "float.tflite"),
               "checked": {"agrees": True}}
        lost = {"format": "litert-int8", "path": None, "missing": None, "reason": "it cannot be"}
        write_json(tmp_path / "export.json", {
            "schema_version": 1, "backend": "keras", "family": family, "classes": 257 if text else 10,
            "example_shape": [8] if text else [4, 4, 1], "formats": [row, lost],
            "tokenizer": {"kind": "bytes", "vocabulary": 257, "sha256": byte_tokenizer().hash} if text else None})
        return tmp_path

    return make


def changed(root, change):
    about = json.loads((root / "export.json").read_text())
    change(about)
    write_json(root / "export.json", about)


def test_the_first_that_agrees_is_taken_and_a_file_in_it_knows_its_export(exported):
    root = exported()
    one, other = predict.open_export(root), predict.open_export(root / "float.tflite")
    assert (one.name, one.path) == ("litert-float", root / "float.tflite") and other == one and one.text


@pytest.mark.parametrize("change, name, said", [
    (lambda a: None, "litert-int8", r"was not exported .*it cannot be.*there is litert-float"),
    (lambda a: None, "onnx", "is no format"),
    (lambda a: a["formats"][0].update(sha256="0"), None, "its content is not what export.json says"),
    (lambda a: a["formats"][0].update(path="../../secret"), None, r"export.json: formats\[0\].*not where it belongs"),
    (lambda a: a.update(schema_version=9), None, "schema_version 1"),
    (lambda a: a.pop("tokenizer"), None, "tokenizer: missing; export it again"),
    (lambda a: a["formats"].clear(), None, "no format that was written")])
def test_an_export_that_is_not_what_it_says_is_refused(exported, change, name, said):
    changed(root := exported(), change)
    with pytest.raises(BadInput, match=said):
        predict.open_export(root, name)


def test_a_path_that_is_no_export_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no such export"):
        predict.open_export(tmp_path / "none")
    with pytest.raises(BadInput, match="neither an export"):
        predict.open_export(tmp_path)
    (tmp_path / "int8.tflite").touch()
    assert predict.open_export(tmp_path / "int8.tflite").about is None


def test_text_becomes_the_last_ids_that_fit_and_is_filled_up(exported, tmp_path, capsys):
    opened = predict.open_export(exported())
    (tmp_path / "a.txt").write_text("abc")
    rows, lengths = predict.read_rows(tmp_path / "a.txt", opened)
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert np.array_equal(predict.read_rows(tmp_path / "bom.txt", opened)[0], rows)
    assert rows.tolist() == [[97, 98, 99, 256, 256, 256, 256, 256]] and lengths.tolist() == [3]
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": "0123456789"}\n')
    rows, lengths = predict.read_rows(tmp_path / "a.jsonl", opened)
    assert lengths.tolist() == [1, 8] and bytes(rows[1].tolist()) == b"23456789"
    assert "1 of 2 texts are longer than the 8 tokens" in capsys.readouterr().err
    np.save(tmp_path / "a.npy", np.array([[1, 2], [3, 4]]))
    rows, lengths = predict.read_rows(tmp_path / "a.npy", opened)
    assert rows.shape == (2, 8) and rows.dtype == np.int32 and lengths.tolist() == [2, 2]


def test_images_are_from_0_to_1(exported, tmp_path):
    opened = predict.open_export(exported("mlp"))
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 17
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "a.npz", inputs=pixels[None] / np.float32(255), labels=np.zeros(1))
    save_tensors(tmp_path / "a.safetensors", {"anything": pixels[None]})
    from PIL import Image

    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "16.png")
    for name in ("a.npy", "a.npz", "a.safetensors", "a.png", "16.png"):
        rows, lengths = predict.read_rows(tmp_path / name, opened)
        assert np.array_equal(rows[0], pixels / np.float32(255))
        assert rows.shape == (1, 4, 4, 1) and rows.dtype == np.float32 and rows.max() == 1 and lengths is None, name


def test_an_export_without_its_json_takes_no_less_care(tmp_path):
    (tmp_path / "int8.tflite").touch()
    opened = predict.open_export(tmp_path / "int8.tflite")
    np.save(tmp_path / "a.npy", np.full((1, 4, 4, 1), 255, np.uint8))
    assert predict.read_rows(tmp_path / "a.npy", opened)[0].max() == 1
    np.save(tmp_path / "a.npy", np.array([[1, 200]], np.uint8))
    ids, lengths = predict.read_rows(tmp_path / "a.npy", opened)
    assert ids.tolist() == [[1, 200]] and ids.dtype == np.int32 and lengths.tolist() == [2]
    for wrong in (np.full((1, 4, 4, 1), 255.0), np.array([[1.5]]), np.array([[-1]]), np.zeros((0, 8), int)):
        np.save(tmp_path / "a.npy", wrong)
        with pytest.raises(BadInput, match="a.npy: "):
            predict.read_rows(tmp_path / "a.npy", opened)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "uint64"])
def test_ids_of_any_whole_type_are_rows(exported, tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.array([[1, 127]], dtype))
    rows, lengths = predict.read_rows(tmp_path / "a.npy", predict.open_export(exported()))
    assert rows.tolist() == [[1, 127] + [256] * 6] and rows.dtype == np.int32 and lengths.tolist() == [2]


class Planted:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("family, name, write, said", [
    ("decoder", "a.txt", lambda p: p.write_bytes(b"\xff"), "byte 0 is not valid UTF-8"),
    ("decoder", "a.txt", lambda p: p.write_text(""), "one of its texts is empty"),
    ("decoder", "a.jsonl", lambda p: p.write_text("\n"), "there is no text in it"),
    ("decoder", "a.jsonl", lambda p: p.write_text('{"words": "a"}'), 'a.jsonl:1: has no text under data.field="text"'),
    ("decoder", "a.npy", lambda p: np.save(p, np.array([[300]])), "but the vocabulary has 0 to 256"),
    ("decoder", "a.npy", lambda p: np.save(p, np.zeros((1, 9), int)), "rows of 1 to 8 ids are wanted"),
    ("decoder", "a.npy", lambda p: np.save(p, np.zeros((1, 8))), "float64 of shape"),
    ("decoder", "a.png", lambda p: p.touch(), "this model reads .txt, .jsonl"),
    ("mlp", "a.txt", lambda p: p.touch(), "this model reads .png"),
    ("mlp", "a.npy", lambda p: None, "No such file"),
    ("mlp", "a.npy", lambda p: np.save(p, np.array([Planted()], object), allow_pickle=True), "no array can be read"),
    ("mlp", "a.npy", lambda p: p.write_bytes(b"\x80\x04x"), "no array can be read"),
    ("mlp", "a.npz", lambda p: np.savez(p, a=np.zeros(1), b=np.zeros(1)), "name the array `inputs`"),
    ("mlp", "a.npy", lambda p: np.save(p, np.zeros((1, 5, 5, 1))), "images of shape"),
    ("mlp", "a.npy", lambda p: np.save(p, np.zeros((1, 4, 4, 1), int)), "int64 of shape"),
    ("mlp", "a.npy", lambda p: np.save(p, np.full((1, 4, 4, 1), np.nan)), "not finite"),
    ("mlp", "a.safetensors", lambda p: p.write_bytes(b"torn"), "not a whole safetensors file"),
    ("mlp", "a.npy", lambda p: np.save(p, np.full((1, 4, 4, 1), 255.0)), "from 0 to 255.*divide them by 255"),
    ("mlp", "a.npy", os.mkfifo, "no file but a pipe"), ("decoder", "a.txt", Path.mkdir, "is a folder"),
    ("decoder", "a.npy", lambda p: np.save(p, np.array([[b"a"]])), "rows of 1 to 8 ids are wanted"),
    ("mlp", "a.png", lambda p: p.write_bytes(b"torn"), "no image can be read")])
def test_a_file_that_cannot_be_read_is_one_line(exported, tmp_path, capsys, family, name, write, said):
    opened = predict.open_export(exported(family))
    write(tmp_path / name)
    with pytest.raises(BadInput, match=said) as raised:
        predict.read_rows(tmp_path / name, opened)
    assert "\n" not in str(raised.value) and name in str(raised.value)
    assert "unpickled" not in capsys.readouterr().out


def test_an_image_of_another_size_is_told_which(exported, tmp_path):
    from PIL import Image

    Image.new("L", (6, 5)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="is 5 x 6 pixels, but the model takes 4 x 4"):
        predict.read_rows(tmp_path / "a.png", predict.open_export(exported("mlp")))


def test_a_prediction_is_a_line_of_json_with_what_follows_the_text(exported, tmp_path, capsys, monkeypatch):
    def follows(inputs):
        """The id after that of each position, with the odds e^9 to 1 against every other."""
        return np.eye(257, dtype=np.float32)[(inputs + 1) % 257] * 9

    monkeypatch.setattr(predict, "function_of", lambda opened: follows)
    root = exported()
    (tmp_path / "a.jsonl").write_text('{"text": "ab"}\n{"text": "xyz"}\n')
    predict.predict(root, tmp_path / "a.jsonl", top=2, out=tmp_path / "out.safetensors")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["tokens"], row["next"][0]["text"]) for row in found] == [(2, "c"), (3, "{")]
    assert found[0]["next"][0]["probability"] == pytest.approx(1 / (1 + 256 * math.exp(-9))) and len(
        found[0]["next"]) == 2
    assert safetensors.load_file(tmp_path / "out.safetensors")["logits"].shape == (2, 8, 257)
    assert difference(safetensors.load_file(tmp_path / "out.safetensors")["logits"][0, 1], follows(np.array(98))) == 0


def test_logits_that_are_not_finite_are_no_prediction(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "function_of", lambda opened: lambda x: np.full((len(x), 8, 257), np.nan))
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(Exception, match="not finite"):
        predict.predict(exported(), tmp_path / "a.txt")
    with pytest.raises(BadInput, match="--out .*ending"):
        predict.predict(exported(), tmp_path / "a.txt", out="logits.npy")


def test_classes_are_told_by_the_names_that_the_run_kept():
    from twinscale.common.predict import said

    chances = np.array([0.1, 0.7, 0.2])
    assert said(0, [1, 2], chances, None, ["ape", "bear", "cat"])["classes"] == [
        {"class": 1, "label": "bear", "probability": 0.7}, {"class": 2, "label": "cat", "probability": 0.2}]
    assert said(0, [1], chances, None, None)["classes"] == [{"class": 1, "probability": 0.7}]


@pytest.mark.parametrize("change, said", [
    (lambda a: a.update(classes=299), "classes or example_shape are not those"),
    (lambda a: a.update(example_shape=[17]), "classes or example_shape are not those"),
    (lambda a: a["tokenizer"].update(kind="words"), "tokenizer.kind"),
    (lambda a: a.update(family="mlp", tokenizer=None, example_shape=[8, 8, 1]), "its family"),
    (lambda a: a.update(recipe_hash="0" * 64), "not the recipe that export.json is of")])
def test_an_export_json_that_its_recipe_contradicts_is_refused(exported, change, said):
    root = exported()
    changed(root, change)
    with pytest.raises(BadInput, match=said):
        predict.open_export(root)


@pytest.mark.parametrize(("code", "kind"), [(1, TwinscaleError), (70, Hung), (74, CannotSave), (75, Stopped)])
def test_a_writers_exit_code_comes_through(monkeypatch, code, kind):
    ended = lambda *_, **__: subprocess.CompletedProcess([], code, "", "no space")  # noqa: E731
    monkeypatch.setattr(export_process.process, "run", ended)
    with pytest.raises(kind, match=f"swap.any ended with exit code {code}: no space") as caught:
        export_process.ask("twinscale.swap.any")
    assert caught.value.exit_code == code
