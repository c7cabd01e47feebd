"""`twinscale check-device`."""

from types import SimpleNamespace

from twinscale.common import cli
from twinscale.common.verbs import shared


def test_options_reach_what_checks_and_its_exit_code_is_the_commands(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(shared, "room", lambda name: SimpleNamespace(
        check_device=lambda out, **given: asked.append((name, out.name, given)) or 3))
    words = ["check-device", "--rehearse", "--bench", "r.toml", "--out", str(tmp_path / "o")]
    assert cli.main(words) == 3
    assert asked == [("benchmarks.device_check.check", "o", {
        "rehearse": True, "benched": "r.toml", "overwrite": False, "as_json": False})]
    assert "all of it is in" in capsys.readouterr().err
