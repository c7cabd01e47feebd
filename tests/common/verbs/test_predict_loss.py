"""`twinscale predict-loss` as people call it."""

import json
import shlex

import pytest

from twinscale.common.cli import main


def test_points_of_a_known_law(capsys):
    assert main(["predict-loss", "hoffmann2022", "--n", "70e9", "--n", "1e9", "--d", "1.4e12", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert rows[0]["value"] == pytest.approx(1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28)
    assert rows[1]["value"] > rows[0]["value"]


@pytest.mark.parametrize("words, said", [
    (["hoffmann2022", "--n", "1e9"], "--d: the law chinchilla reads it"),
    (["nothing", "--n", "1", "--d", "1"], "FIT nothing"),
    (["hoffmann2022", "--n", "1e9", "--d", "1e9", "--level", "2"], "--level 2")])
def test_what_is_missing_is_one_line(words, said, capsys):
    assert main(["predict-loss", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1


def test_what_it_leaves_is_what_json_prints_and_is_asked_again_by_its_own_command(tmp_path, monkeypatch, capsys):
    """The figures of the command are those that were asked, whatever their digits."""
    monkeypatch.chdir(tmp_path)
    words = ["predict-loss", "hoffmann2022", "--n", "123456789.0", "--n", "1e9", "--d", "2e10", "--far"]
    assert main([*words, "--out", "p", "--json"]) == 0
    printed = capsys.readouterr().out
    left = (tmp_path / "p" / "prediction.json").read_text()
    found = json.loads(left)
    assert printed == left and found["rows"][0]["point"]["N"] == 123456789.0
    assert main(shlex.split(found["commands"][0])[1:]) == 0
    again = json.loads((tmp_path / "p-again" / "prediction.json").read_text())
    assert all(again[key] == found[key] for key in ("law", "rows", "sentence"))


def test_what_is_there_stays_unless_told_and_what_is_refused_leaves_nothing(tmp_path, capsys):
    words = ["predict-loss", "hoffmann2022", "--n", "1e9", "--d", "2e10", "--out", str(tmp_path / "p")]
    assert main([*words, "--bits", "4"]) == 2 and not (tmp_path / "p").exists()
    assert [main(words), main(words), main([*words, "--overwrite"])] == [0, 2, 0]
    assert "holds a prediction.json already" in capsys.readouterr().err
