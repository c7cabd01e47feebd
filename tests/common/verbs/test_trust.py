"""`twinscale trust`."""

import json

import pytest

from twinscale.common import cli, registry, trust


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(trust.HANDED, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("1 / 0")  # it is not run
    return tmp_path


def test_files_by_content_and_modules_by_name_are_named_listed_and_forgotten(work, capsys):
    file = work / "mine.py"
    key = f"sha256={registry.sha256_of(file)}"
    assert cli.main(["trust", "mine.py", "some.module:IT"]) == 0 and trust.is_trusted(key)
    assert cli.main(["trust", "--list"]) == 0
    assert capsys.readouterr().out == f"{file}  {key[7:19]}\nsome.module  module\n"
    assert cli.main(["trust", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trusted"] == {key: str(file), "module=some.module": "some.module"}
    file.write_text("2 / 0")
    assert cli.main(["trust", "mine.py:IT", "--forget"]) == 0  # also what it was
    assert set(trust.kept()) == {"module=some.module"}
    assert cli.main(["trust", "some.module", "--forget"]) == 0 and trust.kept() == {}


@pytest.mark.parametrize(("words", "said"), [
    ([], "name a FILE.py"), (["--forget"], "--forget: of what?"), (["nowhere.py"], "nowhere.py: cannot be read"),
    (["a-b"], "expected FILE.py or MODULE:OBJECT"), (["adamw\x1b"], "expected FILE.py or MODULE:OBJECT")])
def test_what_is_wrong_is_one_line(words, said, capsys):
    assert cli.main(["trust", *words]) == 2
    assert said in (line := capsys.readouterr().err) and line.count("\n") == 1 and line.startswith("twinscale: ")


def test_where_nothing_can_be_written_it_says_what_helps(work, capsys):
    (work / "config").write_text("")
    assert cli.main(["trust", "mine.py"]) == 74
    assert "set XDG_CONFIG_HOME" in capsys.readouterr().err
