"""Texts that a function of the user's own writes anew: added to what is trained on, and to nothing else."""

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.arrays import unread
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import given, load
from twinscale.common.trust import Untrusted

ROWS = [(f"text {i} is long" if i % 3 else f"short {i}", "ab"[i % 2]) for i in range(24)]
FILE = """
CALLS = "{calls}"

def turned(texts):
    open(CALLS, "a").write(f"{{len(texts)}}\\n")
    return [" ".join(reversed(text.split())) if "long" in text else text for text in texts]

def short(texts):
    return texts[1:]

def breaks(texts):
    raise KeyError("model")
"""
RECIPE = """
name = "t"
[data]
source = "csv:{folder}/texts"
tokenizer = "wordpiece"
vocabulary = 257
sequence = 8
rewrite = "mine.py:turned"
[model]
family = "encoder"
layers = 1
width = 8
heads = 2
vocabulary = 257
positions = 8
head = "sequence"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts").mkdir()
    for name, rows in (("train", ROWS), ("valid", [("word long and new", "a"), ("word old", "b")])):
        (tmp_path / "texts" / f"{name}.csv").write_text("text,label\n" + "".join(f"{a},{b}\n" for a, b in rows))
    (tmp_path / "mine.py").write_text(FILE.format(calls=tmp_path / "calls"))
    (tmp_path / "r.toml").write_text(RECIPE.format(folder=tmp_path))
    return tmp_path


def test_each_text_to_train_on_is_there_in_both_ways_once_and_with_its_label(folder, monkeypatch):
    monkeypatch.chdir(folder)
    plain, recipe = load("r.toml", ['data.rewrite=""']), given("r.toml")
    assert plain.hash != recipe.hash and "#sha256=" in recipe.data.rewrite
    dataset, before = open_dataset(recipe), open_dataset(plain)
    assert (len(before.train), len(dataset.train), len(dataset.held_out)) == (24, 40, 2)
    assert (dataset.manifest["rewritten"], dataset.manifest["unchanged"]) == (16, 8)
    assert "has added 16 texts to train on, and left 8 as they were" in unread(dataset.manifest)
    rows = dataset.train.take(np.arange(40))
    long = [i for i, (text, _) in enumerate(ROWS) if "long" in text]
    assert rows["labels"][24:].tolist() == ["ab".index(ROWS[i][1]) for i in long]
    pieces = [sorted(row) for row in rows["ids"].tolist()]
    assert pieces[24:] == [pieces[i] for i in long] and rows["ids"][24:].tolist() != rows["ids"][long].tolist()
    open_dataset(recipe)
    assert (folder / "calls").read_text() == "24\n"  # once, and none that is held out


def test_its_file_is_pinned_and_trusted_as_other_code_is(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "mine.py").write_text((folder / "mine.py").read_text() + f"# {folder}")
    with pytest.raises(Untrusted, match="r.toml.*data.rewrite|data.rewrite"):
        open_dataset(load("r.toml"))
    recipe = given("r.toml")
    (folder / "mine.py").write_text("turned = len")
    with pytest.raises(BadInput, match="mine.py"):
        open_dataset(recipe)


@pytest.mark.parametrize(("name", "said"), [
    ("short", "data.rewrite: gives 23 values of 24 texts: a list of as many texts is wanted"),
    ("breaks", "data.rewrite = mine.py:breaks: breaks when it is called .*KeyError"), ("CALLS", "str: a function")])
def test_what_gives_no_text_for_each_is_said(folder, monkeypatch, name, said):
    monkeypatch.chdir(folder)
    with pytest.raises(BadInput, match=said):
        open_dataset(given("r.toml", [f"data.rewrite=mine.py:{name}"]))


def test_it_is_for_texts_with_a_label_alone(folder):
    with pytest.raises(BadInput, match="data.rewrite is for texts with a label"):
        given(folder / "r.toml", ["data.masked=0.15", "model.head=masked"])
    (folder / "words.txt").write_text("a O\nb B-X\n\nc O\n")
    with pytest.raises(BadInput, match="has a label for each word"):
        open_dataset(given(folder / "r.toml", [f"data.source=conll:{folder}/words.txt", "data.held_out=0.4",
                                               "model.head=tokens"]))
