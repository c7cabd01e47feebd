"""`twinscale compare-runs`: its options, and what are no runs."""

import importlib
from types import SimpleNamespace

from twinscale.common import cli


def test_both_runs_and_what_was_asked_for_are_passed_on_and_its_code_is_the_commands(tmp_path, monkeypatch, capsys):
    asked, real = [], importlib.import_module
    room = SimpleNamespace(compare_runs=lambda *given, **options: asked.append((given, options)) or 3)
    monkeypatch.setattr(importlib, "import_module",
                        lambda name, *rest: room if name == "twinscale.benchmarks.runs" else real(name, *rest))
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    assert cli.main(["compare-runs", str(a), str(b), "--out", str(out), "--overwrite"]) == 3
    assert asked == [((a, b, out), {"overwrite": True, "as_json": False})]
    assert str(out / "report.html") in capsys.readouterr().err


def test_what_is_no_run_is_refused_and_nothing_is_left(tmp_path, capsys):
    assert cli.main(["compare-runs", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 2
    assert "twinscale: " in capsys.readouterr().err and not list(tmp_path.iterdir())
