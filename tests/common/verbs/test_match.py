"""`twinscale match`."""

from twinscale.common import cli


def test_its_help_has_examples_and_a_family_of_ours_is_refused(capsys):
    assert cli.main(["match", "--help"]) == 0
    assert "twinscale match pair.toml model.match=mine.toml --overwrite" in capsys.readouterr().out
    assert cli.main(["match", "mlp-digits"]) == 2
    assert "a pair is matched" in capsys.readouterr().err


def test_whose_checkpoint_is_said_of_one_alone(capsys):
    assert cli.main(["match", "pair.toml", "--of", "flax"]) == 2
    assert "--of flax: whose checkpoint --from CHECKPOINT is" in capsys.readouterr().err
