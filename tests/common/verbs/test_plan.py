"""`twinscale plan`."""

from twinscale.common import cli


def test_the_verb(tmp_path, capsys):
    assert cli.main(["plan", "--flops", "1e21", "--topology", "v5e-256", "--mfu", "0.3:0.5"]) == 0
    said = capsys.readouterr().out
    assert "0.459 to 0.765" in said and "at least 0.229" in said and "--prices" in said
