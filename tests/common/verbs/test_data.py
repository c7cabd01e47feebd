"""`twinscale data fetch` and `list`."""

import json

from twinscale.common import cli
from twinscale.common.data import fetch as fetching
from twinscale.common.data.fetch import SETS


def test_list_says_whose_each_set_is(capsys):
    assert cli.main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert all(word in said for name, one in SETS.items() for word in (name, one.licence, one.source, one.package))
    assert cli.main(["data", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sets"]
    assert found["wordnet"]["files"] == SETS["wordnet"].files


def test_fetch_says_what_is_made_and_how_it_is_used(work, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(fetching, "fetch", lambda name, *rest: calls.append((name, *map(str, rest))) or len(calls) == 1)
    assert cli.main(["data", "fetch", "fashion-mnist"]) == 0
    said = capsys.readouterr().err
    assert "data/fashion-mnist is made: 70,000 gray pictures" in said and "MIT" in said
    assert "use it by data.source=idx:data/fashion-mnist" in said and "train recipes/fashion-mnist.toml" in said
    assert cli.main(["data", "fetch", "wordnet", "--out", "a b", "--from", "w.deb", "--overwrite"]) == 0
    said = capsys.readouterr().err
    assert "a b was already made" in said and "use it by 'data.source=csv:a b'" in said
    assert calls == [("fashion-mnist", "data/fashion-mnist", "None", "False"), ("wordnet", "a b", "w.deb", "True")]


def test_what_cannot_be_fetched_is_one_line(work, capsys):
    (work / "file").write_text("")
    for words, said in ((["mnist"], "NAME='mnist'"), (["wordnet", "--from", "none.deb"], "none.deb: cannot be read"),
                        (["wordnet", "--from", "file"], "file: is no Debian package"),
                        (["wordnet", "--out", "file"], "--out file: a file, but a directory is wanted"),
                        (["wordnet", "--out", "gs://b/x"], "a directory of this machine")):
        assert cli.main(["data", "fetch", *words]) == 2
        assert said in (line := capsys.readouterr().err) and line.count("\n") == 1
    assert not (work / "data").exists()


def test_check_prints_a_table_or_json_and_says_what_to_set(work, capsys):
    (work / "a.txt").write_text("one text with words")
    (work / "b.txt").write_text("One text, with words!")
    (work / "c.txt").write_text("another text")
    (work / "r.toml").write_text('name = "x"\n[data]\nsource = "text:*.txt"\nheld_out = 0.0001\n[model]\n'
                                 'family = "decoder"\n')
    words = ["data", "check", "r.toml", 'data.quality=["exact"]']
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "b.txt: the same text as a.txt: One text, with words!" in said
    assert "2 of 3 documents to train on stay" in said
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"]["exact"]["documents"] == 1
    assert cli.main([*words, "--examples", "0"]) == 0 and "b.txt" not in capsys.readouterr().out
    assert cli.main(["data", "check", "r.toml"]) == 2 and "set such as data.quality=[" in capsys.readouterr().err
