"""Which formats are asked for, what each of them needs, and what export.json says of them."""

import pytest

from tests.pair_of_nobody import foreign
from twinscale.common.errors import BadInput
from twinscale.common.export import formats as export_formats
from twinscale.common.export.formats import check_request, lacking, lines, of_model
from twinscale.common.files.access import place, write_json


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


def test_the_table_says_what_is_lost():
    row = {"format": "litert-int8", "path": "int8.tflite", "bytes": 12345, "zipped_bytes": 999, "operators": {
        "int8": 4, "total": 6}, "checked": {"worst": 0.01, "bound": 0.02, "agrees": True, "error": None}}
    lost = {"format": "keras", "path": None, "missing": "keras", "reason": "keras is not installed"}
    said = lines({"formats": [row, lost]})
    assert "12,345" in said[1] and said[1].endswith("4 of 6")
    assert said[2].endswith("not exported: keras is not installed")


def test_programs_of_somebodys_own_have_the_formats_that_need_no_more_than_their_numbers(tmp_path):
    model = foreign(tmp_path).model
    assert of_model(model, ["savedmodel", "keras", "litert-int8"], named=False) == ["savedmodel"]
    with pytest.raises(BadInput, match=r'--formats: "keras" is not of model.family = "pair": your own model.s `save`'):
        of_model(model, ["keras"], named=True)
    arrays = foreign(tmp_path, {"reads": "arrays"}, data={"source": "random", "inputs": {"x": {"shape": [3]}}}).model
    with pytest.raises(BadInput, match='model.family = "pair" reads arrays: an export has one input'):
        of_model(arrays, ["safetensors"], named=False)


@pytest.mark.parametrize("text", [True, False])
def test_an_export_of_a_family_that_reads_either_is_read_back(tmp_path, text):
    tokenizer = {"kind": "bytes", "vocabulary": 257, "sha256": "0"} if text else None
    write_json(tmp_path / "export.json", {"schema_version": 1, "backend": "jax", "family": "pair", "classes": 257,
                                          "tokenizer": tokenizer, "example_shape": [8] if text else [8, 8, 1],
                                          "formats": []})
    assert export_formats.read_export(tmp_path)["family"] == "pair"
