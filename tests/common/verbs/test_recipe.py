"""Recipes that are shown."""

import json

from twinscale.common import cli


def test_show_prints_toml_or_json_on_stdout_and_talks_on_stderr(work, capsys, lines):
    assert cli.main(["recipe", "show", "r.toml", "seed=5"]) == 0
    out, err = lines()
    assert "seed = 5" in out and "# override" in out
    assert err[0].startswith("twinscale: next: twinscale train r.toml seed=5")
    assert cli.main(["recipe", "show", "r.toml", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["schema_version"] == 1 and shown["origins"]["name"] == "r.toml" and len(shown["hash"]) == 64


def test_schema_describes_every_table(capsys):
    assert cli.main(["recipe", "schema"]) == 0
    assert {"data", "model", "train"} <= json.loads(capsys.readouterr().out)["properties"].keys()


def test_recipes_that_come_along_are_listed_and_copied(tmp_path, lines, capsys):
    assert cli.main(["recipe", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(["recipe", "list"]) == 0
    out, _ = lines()
    assert [line.split()[0] for line in out.splitlines()] == [*found] and "ner-conll" in found
    assert cli.main(["recipe", "copy", "ner-conll", "--to", str(tmp_path)]) == 0
    out, err = lines()
    assert out == "" and f"twinscale: copied: {tmp_path / 'recipes/data/ner/train.txt'}" in err
