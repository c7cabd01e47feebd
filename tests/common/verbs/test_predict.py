"""`twinscale predict`: what it passes on, and what is no export."""

from twinscale.common import cli


def test_what_was_asked_for_is_passed_on(monkeypatch):
    asked = []
    monkeypatch.setattr("twinscale.common.export.predict.predict", lambda *given: asked.append(given))
    assert cli.main(["predict", "build/export", "--input", "a.txt", "--format", "keras", "--top", "3"]) == 0
    assert asked == [("build/export", "a.txt", "keras", None, 3, False)]


def test_what_is_no_export_is_refused_in_a_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("a")
    assert cli.main(["predict", str(tmp_path / "none"), "--input", str(tmp_path / "a.txt")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
