"""What an export is asked, and what it answers."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy as safetensors

from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.errors import BadInput
from twinscale.common.export import predict
from twinscale.common.export.write import content
from twinscale.common.files.access import write_json, write_text
from twinscale.common.files.tensors import difference, save_tensors
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import portable

GPT2 = {"layers": 2, "width": 16, "heads": 4}


def recipe_of(family="decoder", precision="float32", **model):
    source = "stdlib" if family == "decoder" else "digits"
    return Recipe.model_validate({"name": "x", "data": {"source": source, "sequence": 8}, "train": {
        "precision": precision}, "model": {"family": family, **(GPT2 if family == "decoder" else {}), **model}})


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


def test_a_family_of_a_file_is_known_without_its_folder_and_with_it_as_earlier_exports_had_it(exported, trusting):
    """The recipe says where the file lies, export.json only what it is."""
    file = Path(__file__).parents[3] / "docs" / "plugins" / "one_layer.py"
    root, recipe = exported("mlp"), recipe_of(f"{file}:ONE_LAYER", hidden=4)
    for family, known in ((portable(recipe.model.family), True), (recipe.model.family, True),
                          (recipe.model.family.replace("one_layer.py", "other.py"), False)):
        write_text(root / "recipe.toml", dumps(recipe))
        changed(root, lambda about, family=family: about.update(family=family))
        if known:
            assert predict.open_export(root).about["family"] == family
        else:
            with pytest.raises(BadInput, match="its family, .* are not those of the recipe"):
                predict.open_export(root)


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
    from twinscale.common.export.predict import said

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
