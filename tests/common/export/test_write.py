"""Exports without a framework: what is asked for, layouts, bounds and verdicts, and what predict reads and refuses."""

import json
import math
import subprocess
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.errors import BadInput, CannotSave, Hung, MissingEnvironment, Stopped, TwinscaleError
from twinscale.common.export import formats as export_formats
from twinscale.common.export import hugging_face, predict
from twinscale.common.export import process as export_process
from twinscale.common.export import write as export
from twinscale.common.export.check import bound_of, judged
from twinscale.common.export.formats import Model, Shape, check_request, lacking, lines
from twinscale.common.export.write import content
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.files.access import place, write_json, write_text
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
GPT2 = {"layers": 2, "width": 16, "heads": 4}


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
