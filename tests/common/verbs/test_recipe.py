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
