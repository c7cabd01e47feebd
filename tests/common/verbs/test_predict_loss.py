"""`twinscale predict-loss` as people call it."""

import json

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
