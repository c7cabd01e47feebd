"""`twinscale bisect`: where it has nothing to look at."""

from twinscale.common import cli


def test_a_directory_that_is_no_comparison_is_refused_in_a_line(tmp_path, capsys):
    assert cli.main(["bisect", str(tmp_path)]) == 2
    assert [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()] == ["twinscale"]
    assert not list(tmp_path.iterdir())
