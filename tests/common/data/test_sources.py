import json
import os

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.kept import files_of
from twinscale.common.data.sources import checked, documents, images
from twinscale.common.data.text_files import matched
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Data
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


# ---- which files: each once, whatever links and names there are ----


@pytest.fixture
def tree(tmp_path):
    """A folder of texts, with hidden files and folders, brackets in names and texts one and two folders deep."""
    for name in ("a.txt", "b.md", ".hidden.txt", "sub/c.txt", "sub/deep/d.txt", ".git/e.txt", "x[1].txt", "x1.txt",
                 "runs[1]/f.txt", "runs1/g.txt"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


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
