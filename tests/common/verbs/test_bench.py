"""`twinscale bench`."""

from twinscale.common import cli


def test_its_help_has_examples(capsys):
    assert cli.main(["bench", "--help"]) == 0
    assert ("twinscale bench recipes/decoder-6x256.toml --precision bfloat16 jax.attention=cudnn"
            in capsys.readouterr().out)
