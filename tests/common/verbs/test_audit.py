"""What `twinscale audit` refuses."""

import pytest

from twinscale.common import cli


@pytest.mark.parametrize("words, said", [
    (["--recipe", "recipes/mlp-digits.toml", "--clean", "3"], "--recipe: says where to plant"),
    (["train.steps=8"], "train.steps=8: changes a recipe, and none is given")])
def test_what_says_where_to_plant_needs_something_to_plant(words, said, tmp_path, capsys):
    assert cli.main(["audit", *words, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()
