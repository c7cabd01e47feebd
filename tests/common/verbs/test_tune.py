"""`twinscale tune`."""

from twinscale.common import cli


def test_its_help_has_examples(capsys):
    assert cli.main(["tune", "--help"]) == 0
    assert "twinscale tune recipes/mlp-digits.toml --space space.toml --trials 12" in capsys.readouterr().out


def test_a_space_that_is_not_there_is_one_line(tmp_path, capsys):
    assert cli.main(["tune", "mlp-digits", "--space", str(tmp_path / "no.toml"), "--out", str(tmp_path / "o")]) == 2
    assert "no.toml" in capsys.readouterr().err and not (tmp_path / "o").exists()
