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


def test_a_curve_of_others_goes_another_way(tmp_path, capsys):
    a, b = (tmp_path / name for name in "ab")
    for path in (a, b):
        path.write_text("epoch,nll\n1,2.5\n2,2\n")
    words = ["compare-runs", str(a), str(b), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2 and "say by --loss-column" in capsys.readouterr().err
    assert cli.main([*words, "--loss-column", "nll", "--shift", "1"]) == 3
    said = capsys.readouterr()
    assert "cannot be said" in said.out and str(tmp_path / "out" / "report.html") in said.err


def test_what_is_of_foreign_curves_is_refused_of_two_runs(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    words = ["compare-runs", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]
    for option, given in (("--shift", ["1"]), ("--loss-column", ["loss"]), ("--weights", ["x", "y"])):
        assert cli.main([*words, option, *given]) == 2
        assert f"{option}: not for two runs of Twinscale" in capsys.readouterr().err


def test_what_is_no_run_is_refused_and_nothing_is_left(tmp_path, capsys):
    assert cli.main(["compare-runs", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]) == 2
    assert "twinscale: " in capsys.readouterr().err and not list(tmp_path.iterdir())
