import glob
import json
import os

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.kept import files_of
from twinscale.common.data.paths import matching
from twinscale.common.data.sources import checked, documents, images
from twinscale.common.data.text_files import matched
from twinscale.common.errors import BadInput
from twinscale.common.recipe import Data, Recipe
from twinscale.common.sources import SOURCES

WORDS = ["alpha beta gamma " * 9 + str(i) for i in range(40)]


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


def test_no_document_is_on_both_sides(recipe, corpus):
    """Each text is there three times; the copies stay together."""
    dataset = open_dataset(recipe(corpus(WORDS * 3), sequence=16, held_out=0.3, cross_documents=True))
    sides = [[], []]
    for side, part in zip(sides, (dataset.train, dataset.held_out), strict=True):
        side += "".join(map(chr, part.tokens.gather(np.arange(len(part.tokens))))).split(chr(256))[:-1]
    assert sorted(sides[0] + sides[1]) == sorted(WORDS * 3)
    assert not set(sides[0]) & set(sides[1]) and all(sides)


def test_adding_documents_moves_none_across_the_split(recipe, corpus):
    source = corpus(WORDS)
    few, all_ = (open_dataset(recipe(source, sequence=16, held_out=0.3, max_documents=n, batch=1)) for n in (20, 0))
    length = len(few.train.tokens)
    assert np.array_equal(few.train.tokens.gather(np.arange(length)), all_.train.tokens.gather(np.arange(length)))


@pytest.mark.parametrize(("source", "shape", "count"), [("digits", (8, 8, 1), 1797), ("mnist5k", (28, 28, 1), 5000)])
def test_images(recipe, source, shape, count):
    dataset = open_dataset(recipe(source, held_out=0.1))
    assert (dataset.kind, dataset.classes, dataset.example_shape) == ("images", 10, shape)
    assert len(dataset.train) + len(dataset.held_out) == count
    assert 0.07 < len(dataset.held_out) / count < 0.13
    batch = dataset.train.take(np.arange(len(dataset.train)))
    assert batch["inputs"].dtype == batch["weights"].dtype == np.float32 and batch["labels"].dtype == np.int32
    assert batch["inputs"].min() == 0 and batch["inputs"].max() == 1
    assert set(batch["labels"]) == set(range(10))
    train, held_out = ({image.tobytes() for image in part.images[part.members]}
                       for part in (dataset.train, dataset.held_out))
    assert not train & held_out
    json.dumps(dataset.manifest)


def test_max_documents_limits_images():
    assert images(Data(source="digits", max_documents=50))[0].shape == (50, 8, 8, 1)


# ---- which files: each once, whatever links and names there are ----


@pytest.fixture
def tree(tmp_path):
    """A folder of texts, with hidden files and folders, brackets in names and texts one and two folders deep."""
    for name in ("a.txt", "b.md", ".hidden.txt", "sub/c.txt", "sub/deep/d.txt", ".git/e.txt", "x[1].txt", "x1.txt",
                 "runs[1]/f.txt", "runs1/g.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


def found(pattern, scheme="text"):
    return [text for _, text in documents(Data(source=f"{scheme}:{pattern}"))]


@pytest.mark.parametrize("pattern", [
    "*.txt", "**/*.txt", "**", "sub/**", "**/deep/*", "*/*.txt", ".*", ".git/*", "a.tx?", "./[ab].*", "sub/../*.md",
    "**/sub/**/*.txt", "x[[]1].txt", "x?*"])
def test_without_links_a_pattern_means_what_it_means_to_glob(tree, pattern):
    expected = sorted(path for path in glob.glob(f"{tree}/{pattern}", recursive=True) if os.path.isfile(path))
    assert expected and matching(f"{tree}/{pattern}") == expected


def test_a_relative_pattern(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert found("**/*.txt") == found(f"{tree}/**/*.txt") and found("sub/*.txt") == ["sub/c.txt"]


def test_two_links_to_their_own_folder_read_each_file_once(tree):
    before = found(f"{tree}/**/*.txt")
    (tree / "a_loop").symlink_to(".")
    (tree / "sub" / "up").symlink_to("..")
    (tree / "again.txt").symlink_to("a.txt")
    (tree / "itself").symlink_to("itself")
    assert len(before) == 7 and found(f"{tree}/**/*.txt") == before


def test_a_link_to_texts_that_lie_elsewhere_is_followed(tree, tmp_path):
    (tmp_path / "texts").symlink_to(tree / "sub")
    (tree / "z_one.txt").symlink_to(tree / "b.md")
    assert found(f"{tmp_path}/texts/**/*.txt") == ["sub/c.txt", "sub/deep/d.txt"]
    assert "b.md" in found(f"{tree}/*.txt")


def test_brackets_in_a_name_that_is_there_are_the_name(tree):
    assert found(f"{tree}/x[1].txt") == ["x[1].txt"] and found(f"{tree}/runs[1]/*.txt") == ["runs[1]/f.txt"]
    (tree / "x[1].txt").unlink()
    assert found(f"{tree}/x[1].txt") == ["x1.txt"]


def test_a_name_that_is_not_utf8(recipe, tmp_path):
    for i in range(40):
        with open(os.fsencode(tmp_path) + b"/caf\xe9 \xe6\x97\xa5 %d.txt" % i, "w") as file:
            file.write(WORDS[i])
    dataset = open_dataset(recipe(f"text:{tmp_path}/*.txt", sequence=16, held_out=0.2))
    json.dumps(dataset.manifest).encode()
    assert len(files_of(dataset.files)) == 40
    assert sum(dataset.manifest[split]["documents"] for split in ("train", "held_out")) == 40


def test_short_documents_are_packed_where_rows_go_across_them(recipe, corpus):
    dataset = open_dataset(recipe(corpus([f"short {i}" for i in range(200)]), sequence=64, held_out=0.3,
                                  cross_documents=True))
    batch = dataset.train.take(np.arange(len(dataset.train)))
    assert len(dataset.train) >= 8 and (batch["weights"] == 1).all()
    assert all(row.count(256) >= 6 for row in batch["inputs"].tolist())


@pytest.mark.parametrize(("make", "pattern", "parts"), [
    (lambda path: None, "", ["is a folder", "/**/*.txt"]), (lambda path: os.mkfifo(path / "p"), "p", ["p is no file"]),
    (lambda path: os.mkfifo(path / "p.txt"), "*.txt", ["p.txt is no file but a pipe"]),
    (lambda path: (path / "gone.txt").symlink_to("nowhere"), "*.txt", ["gone.txt cannot be read", "narrow"]),
    (lambda path: (path / "one.text").touch(), "*.txt", ['did you mean "', "one.text"]),
    (lambda path: (path / "bad\x1b[31m.txt").write_bytes(b"\xff"), "*", ["bad\\x1b[31m.txt: byte 0"])])
def test_what_is_no_file_is_one_line(recipe, tmp_path, make, pattern, parts):
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    line = refused(recipe(f"text:{tmp_path}/in/{pattern}"), *parts)
    assert line.isprintable()


def test_a_folder_that_cannot_be_listed_is_not_left_out(recipe, tree, monkeypatch):
    listed = os.scandir

    def refuse(folder):
        if str(folder).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    refused(recipe(f"text:{tree}/**/*.txt"), "sub: cannot be read (Permission denied)")


# ---- bad input: one line with the key, the value and the fix ----


@pytest.mark.parametrize(("source", "fix"), [
    ("stdlb", 'did you mean "stdlib"?'), ("txt:a", 'did you mean "text:GLOB"?'), ("text", 'did you mean "text:GLOB"?'),
    ("stdlib:x", 'did you mean "stdlib"?'), ("jsonl:", 'did you mean "jsonl:GLOB"?'), ("@@@", "take one of stdlib")])
def test_unknown_source(recipe, source, fix):
    refused(recipe(source, family="decoder"), f'data.source="{source}"', fix)


@pytest.mark.parametrize("source", ["dir:pics", "pics", "folder", "foldr:pics", "digit", "fashion"])
def test_an_unknown_source_is_not_taken_for_text_where_pictures_are_wanted(recipe, source):
    with pytest.raises(ValueError, match="is unknown: (did you mean|take one of)") as refusal:
        recipe(source, family="mlp")
    assert "holds" not in str(refusal.value)


@pytest.mark.parametrize("source, family, holds", [("text:a", "mlp", "text"), ("stdlib", "convnet", "text"),
                                                   ("digits", "decoder", "images"), ("folder:a", "decoder", "images")])
def test_a_source_of_what_a_family_does_not_read_is_refused_at_once(recipe, source, family, holds):
    with pytest.raises(ValueError, match=f'holds {holds}, which model.family="{family}" does not read'):
        recipe(source, family=family)


def test_missing_file(recipe, tmp_path):
    (tmp_path / "books.txt").write_text("text")
    refused(recipe(f"text:{tmp_path}/boks.txt"), f'data.source="text:{tmp_path}/boks.txt"', f'"{tmp_path}/books.txt"?')
    refused(recipe(f"jsonl:{tmp_path}/none/*.jsonl"), "matches no file", "give the path")


def test_empty_file(recipe, tmp_path):
    (tmp_path / "a.txt").write_text("")
    refused(recipe(f"text:{tmp_path}/a.txt"), f'data.source="text:{tmp_path}/a.txt"', "holds no text")


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


def test_sequence_longer_than_any_document(recipe, corpus):
    refused(recipe(corpus(["ab" * i for i in range(1, 40)]), sequence=128, held_out=0.5), "data.sequence=128",
            "take at most")


def test_fewer_examples_than_a_batch(recipe, corpus):
    refused(recipe(corpus(WORDS), sequence=64, batch=5000, held_out=0.5), "train.global_batch=5000", "lower it")
    refused(recipe("digits", batch=4096), "train.global_batch=4096", 'data.source="digits"')


def test_nothing_on_one_side(recipe, corpus):
    refused(recipe(corpus(["one document " * 50])), "data.held_out=0.02", "1 documents in all", "raise data.held_out")
    refused(recipe("digits", held_out=0.9999999), "train split", "lower data.held_out")


def test_the_wrong_kind_for_the_model():
    whole = Recipe.model_validate({"name": "a", "model": {"family": "decoder"}})
    image = Recipe.model_validate({"name": "a", "model": {"family": "mlp"}, "data": {"source": "digits"}})
    refused(whole.model_copy(update={"data": image.data}), 'data.source="digits"', 'model.family="decoder" reads text')
    refused(image.model_copy(update={"data": whole.data}), 'data.source="stdlib"', 'model.family="mlp" reads images')


@pytest.mark.parametrize(("labels", "parts"), [
    ([0, 2, 3], ["example 2 has the label 3", "0..2"]), ([0, -1], ["example 1 has the label -1"]),
    ([0.0, 0.5], ["labels of type float64", "whole numbers"])])
def test_labels_are_integers_in_range(labels, parts):
    with pytest.raises(BadInput) as caught:
        checked(labels, 3, "tfds:x")
    assert all(part in str(caught.value) for part in ['data.source="tfds:x"', *parts])


def test_an_unreadable_file(recipe, corpus, monkeypatch):
    source = corpus(["text"])
    path = matched(Data(source=source), source.removeprefix("text:"), "txt")[0]

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    refused(recipe(source), f"{path} cannot be read (Permission denied)")


def test_a_source_that_is_only_listed_is_read_as_no_other_one(monkeypatch):
    for read in (lambda data: list(documents(data)), images):
        monkeypatch.setitem(SOURCES.builtin, "unheard:NAME", "twinscale.common.data.sources:UNHEARD")
        with pytest.raises(BadInput, match="unheard"):
            read(Data(source="unheard:any"))
