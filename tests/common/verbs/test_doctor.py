"""`twinscale doctor`."""

import json

from twinscale.common import cli


def test_the_verb_prints_or_writes_the_same_as_json_and_exits_4_when_nothing_can_run(quick, absent, tmp_path, capsys):
    assert cli.main(["doctor", "--json", "--out", str(tmp_path / "new" / "d.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "new" / "d.json").read_text()) == printed
    assert printed["backends"] == {"keras": True, "keras-jax": True, "jax": True}
    assert cli.main(["doctor", "--out", str(tmp_path)]) == 2
    absent("keras", "flax")
    capsys.readouterr()
    assert cli.main(["doctor"]) == 4
    assert capsys.readouterr().err == (
        "twinscale: no backend can run; pip install 'twinscale[cpu]' or 'twinscale[jax]'\n")
