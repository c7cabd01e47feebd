"""Data sets that are fetched: each is what is pinned, or nothing is written."""

import csv
import hashlib
import io
import json
from collections import Counter
from dataclasses import replace

import pytest

from twinscale.common.data import fetch as fetching
from twinscale.common.data.fetch import CLOTHES, FETCHED, LEXICAL, SETS, definition, fetch, part_of, tables_of_glosses
from twinscale.common.errors import BadInput

ANIMAL = "00001740 05 n 01 cat 0 001 @ 00001930 n 0000 | a small animal; \"the cat sat\"; \"a 'cat'\"  \n"
LICENCE = "  1 This software and database is being provided to you\n"


@pytest.fixture
def small(tmp_path, monkeypatch, package):
    """The set "small" and its package's file: what is made of it is its file, in capitals."""
    path = package(tmp_path / "small.deb", [("usr/a.txt", b"words")])
    one = replace(SETS["wordnet"], files={"usr/a.txt": hashlib.sha256(b"words").hexdigest()},
                  made=lambda files: {"train.csv": files["usr/a.txt"].upper()})
    monkeypatch.setitem(SETS, "small", one)
    return path


def test_what_is_made_says_whose_it_is(small, tmp_path):
    out = tmp_path / "data" / "small"
    assert fetch("small", out, small)
    said = json.loads((out / FETCHED).read_text())
    assert (out / "train.csv").read_bytes() == b"WORDS"
    assert said["licence"] == SETS["small"].licence and said["files"] == SETS["small"].files
    assert said["made"] == {"train.csv": hashlib.sha256(b"WORDS").hexdigest()}


def test_what_is_there_stays_and_what_was_cut_short_is_made_again(small, tmp_path):
    out = tmp_path / "small"
    assert fetch("small", out, small) and not fetch("small", out, "nowhere.deb")
    (out / FETCHED).unlink()
    (out / "train.csv").write_text("half")
    assert fetch("small", out, small) and (out / "train.csv").read_bytes() == b"WORDS"
    (out / "train.csv").write_text("changed")
    assert fetch("small", out, small, overwrite=True) and (out / "train.csv").read_bytes() == b"WORDS"


def test_another_file_than_the_pinned_one_leaves_nothing(small, tmp_path, package):
    package(small, [("usr/a.txt", b"other")])
    with pytest.raises(BadInput, match=r"small.deb: usr/a.txt is another file than that of version 1:3.0-37: .*--from"):
        fetch("small", tmp_path / "new" / "out", small)
    assert not (tmp_path / "new").exists()


def test_what_is_somebody_elses_is_not_touched_and_nothing_is_downloaded_for_it(small, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "downloaded", lambda *_: pytest.fail("it was downloaded"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(BadInput, match="not empty and not ours"):
            fetch("small", tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "train.csv").read_text() == "mine"
    with pytest.raises(BadInput, match="NAME='mnist'.*known are fashion-mnist, wordnet"):
        fetch("mnist", tmp_path / "x")


def test_glosses_are_definitions_with_their_lexicographer_file():
    files = {"data.noun": (LICENCE + ANIMAL).encode(), "data.adj": ANIMAL.replace(" 05 ", " 44 ").encode()}
    tables = [list(csv.reader(io.StringIO(table.decode()))) for table in tables_of_glosses(files).values()]
    found = [row for table in tables for row in table[1:]]
    assert sorted(found) == [["a small animal", "adj.ppl"], ["a small animal", "noun.animal"]]
    assert len(LEXICAL) == len(set(LEXICAL)) == 45 and (LEXICAL[3], LEXICAL[43]) == ("noun.Tops", "verb.weather")
    assert definition('gradually: "These chip away"') == "gradually"
    assert definition('on the job (in the phrase "make strides"); ') == 'on the job (in the phrase "make strides")'


def test_a_text_is_in_one_part_whoever_has_it():
    counts = Counter(part_of(f"text {i}") for i in range(5000))
    assert 0.78 < counts["train"] / 5000 < 0.82 and 0.08 < counts["valid"] / 5000 < 0.12 and counts["test"] > 400
    files = {"data.noun": ANIMAL.encode() * 3 + ANIMAL.replace("small", "big").encode()}
    lines = [set(table.decode().splitlines()[1:]) for table in tables_of_glosses(files).values()]
    assert sum(map(len, lines)) == 2 and sum(b"small" in table for table in tables_of_glosses(files).values()) == 1


def test_each_set_is_described_and_its_classes_have_names():
    for one in SETS.values():
        assert all(len(pin) == 64 for pin in one.files.values()) and one.licence and one.source.startswith("https://")
    assert len(set(CLOTHES)) == 10
