"""`twinscale plan-serving` as people call it."""

import json

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
