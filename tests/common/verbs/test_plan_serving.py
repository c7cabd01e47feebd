"""`twinscale plan-serving` as people call it."""

import json
import shlex

from twinscale.common.cli import main


def test_a_plan_from_the_command_line(capsys):
    words = ["plan-serving", "--law", "besiroglu2024", "--memory", "4e9", "--tokens", "1e11"]
    assert main([*words, "--bits", "16", "--bits", "4", "--teacher", "7e9:140e9", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["bits"] for row in rows} == {4.0, 16.0} and {row["distilled"] for row in rows} == {True, False}


def test_a_teacher_that_is_none_is_one_line(capsys):
    words = ["plan-serving", "--law", "besiroglu2024", "--memory", "4e9", "--tokens", "1e11"]
    assert main([*words, "--teacher", "7e9"]) == 2
    error = capsys.readouterr().err
    assert "--teacher 7e9: its parameters and tokens" in error and len(error.splitlines()) == 1


def test_what_it_leaves_is_what_json_prints_and_is_asked_again_by_its_own_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["plan-serving", "--law", "besiroglu2024", "--memory", "4e9", "--flops", "1.2345678e22", "--serve", "1e12",
             "--bits", "4", "--bits", "8", "--sparsity", "0.5", "--teacher", "7e9:140e9", "--out", "s"]
    assert main([*words, "--json"]) == 0
    printed, left = capsys.readouterr().out, (tmp_path / "s" / "serving.json").read_text()
    found = json.loads(left)
    assert printed == left and found["sentence"].startswith("Serve ") and found["wanted"]["flops"] == 1.2345678e22
    assert main(shlex.split(found["commands"][0])[1:]) == 0
    again = json.loads((tmp_path / "s-again" / "serving.json").read_text())
    assert all(again[key] == found[key] for key in ("wanted", "rows", "sentence"))
    assert main(words) == 2 and main([*words, "--overwrite"]) == 0


def test_what_is_refused_leaves_nothing(tmp_path):
    assert main(["plan-serving", "--law", "besiroglu2024", "--tokens", "1e11", "--out", str(tmp_path / "s")]) == 2
    assert not (tmp_path / "s").exists()
