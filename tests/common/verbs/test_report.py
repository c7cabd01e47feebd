"""`twinscale report`: its options, and what is no run."""

import importlib
from types import SimpleNamespace

from twinscale.common import cli


def test_a_run_and_what_was_asked_for_are_passed_on(tmp_path, monkeypatch, capsys):
    asked, real = [], importlib.import_module
    room = SimpleNamespace(report=lambda *given, **options: asked.append((given, options)))
    monkeypatch.setattr(importlib, "import_module",
                        lambda name, *rest: room if name == "twinscale.benchmarks.one_run" else real(name, *rest))
    run, out = tmp_path / "run", tmp_path / "out"
    assert cli.main(["report", str(run), "--out", str(out), "--overwrite"]) == 0
    assert asked == [((run, out), {"overwrite": True, "as_json": False})]
    assert str(out / "report.html") in capsys.readouterr().err


def test_what_is_no_run_is_one_line_and_nothing_is_left(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for name in ("mine", "nowhere"):
        assert cli.main(["report", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and "not a run (there is no run.json)" in said.err
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
