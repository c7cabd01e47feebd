"""Texts out of files."""

import json

import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.sources import documents
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Data


def refused(recipe, *parts):
    """The one line that refuses `recipe`, which has all of `parts`."""
    with pytest.raises(BadInput) as caught:
        open_dataset(recipe)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line
    return line


def jsonl(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return f"jsonl:{path}"


def test_the_standard_library_without_tests_and_packages():
    names = [name for name, _ in documents(Data())]
    assert names == sorted(names, key=lambda name: name.split("/")) and len(set(names)) == len(names)
    assert "json/decoder.py" in names and "os.py" in names
    assert not {part for name in names for part in name.split("/")} & {"test", "tests", "site-packages", "idle_test"}


def test_a_text_file_is_read_as_it_is(corpus):
    data = Data(source=corpus(["a\r\nb\n", "", "\ufeffé\ufeff"]))  # a byte order mark at the start is no text
    assert list(documents(data)) == [("0000.txt", "a\r\nb\n"), ("0002.txt", "é\ufeff")]
    assert [text for _, text in documents(Data(source=data.source, max_documents=1))] == ["a\r\nb\n"]


def test_jsonl_takes_the_field_of_each_line(tmp_path):
    source = jsonl(tmp_path / "a.jsonl", {"body": "one", "text": "no"}, b"\n", {"body": "two"})
    assert list(documents(Data(source=source, field="body"))) == [("a.jsonl:1", "one"), ("a.jsonl:3", "two")]


def test_invalid_utf8_names_file_and_byte(recipe, corpus):
    source = corpus(["fine", b"caf\xe9 noir"])
    refused(recipe(source), "0001.txt: byte 3 is not valid UTF-8", "convert the file")


@pytest.mark.parametrize(("line", "parts"), [
    (b"{text: 1}\n", ["is no JSON", "one JSON object a line"]), (b'{"text": "\xff"}\n', ["is no JSON in UTF-8"]),
    (b"[" * 100_000 + b"\n", ["is no JSON"]), ({"texts": "a"}, ['no text under data.field="text"', "['texts']"]),
    ({"text": 3}, ["it has int there", "set data.field"]), ([1], ["it has list"]), (b"null\n", ["it has null"]),
    ({"text": None}, ["it has null there"]), (b'{"text": "a"}'.decode().encode("utf-16"), ["is no JSON in UTF-8"]),
    (b'{"text": "\\ud800"}\n', ["character 0", "surrogate"])])
def test_bad_line_of_json_names_file_and_line(recipe, tmp_path, line, parts):
    refused(recipe(jsonl(tmp_path / "a.jsonl", {"text": "good"}, line)), f"{tmp_path}/a.jsonl:2:", *parts)
