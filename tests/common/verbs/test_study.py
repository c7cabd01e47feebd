"""`twinscale study`."""

from twinscale.common import cli


def test_its_help_has_examples(capsys):
    assert cli.main(["study", "--help"]) == 0
    assert "twinscale study recipes/studies/decoder-stdlib.toml --out build/study" in capsys.readouterr().out


def test_a_study_that_is_not_there_is_one_line(tmp_path, capsys):
    assert cli.main(["study", str(tmp_path / "no.toml"), "--out", str(tmp_path / "o")]) == 2
    assert "no.toml" in capsys.readouterr().err and not (tmp_path / "o").exists()
