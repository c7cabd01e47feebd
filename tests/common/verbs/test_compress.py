"""`twinscale compress`: what it refuses before anything is read or written."""

from twinscale.common import cli


def test_what_is_no_run_is_refused_in_a_line(work, capsys):
    words = ["compress", "run", "--recipe", "r.toml", "--backend", "jax", "--out", "out"]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("twinscale: run run: not a run") and not (work / "out").exists()


def test_another_backend_is_none(work, capsys):
    assert cli.main(["compress", "run", "--recipe", "r.toml", "--backend", "both", "--out", "out"]) == 2
    assert "keras" in capsys.readouterr().err
