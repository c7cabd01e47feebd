"""Recipes that come along: their list, and a copy that is complete and takes nothing from its reader."""

import tomllib
from pathlib import Path

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import RECIPES, load
from twinscale.common.recipe.shipped import copied, listed

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_every_recipe_is_listed_with_what_it_is():
    found = listed()
    assert found.keys() == {path.stem for path in RECIPES.glob("*.toml")} and len(found) > 5
    assert found["mlp-digits"] == "The smallest shipped recipe: 8x8 digits through two hidden layers"
    assert all(found.values())


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.toml"))])
def test_a_copy_is_the_same_recipe_with_all_that_it_names(tmp_path, name, monkeypatch):
    files = copied(name, tmp_path)
    assert files[0] == tmp_path / "recipes" / f"{name}.toml" and copied(name, tmp_path) == files
    recipe = load(files[0])
    assert recipe.hash == load(RECIPES / f"{name}.toml").hash
    source = recipe.data.source.partition(":")[2]
    if source.startswith("recipes/"):
        assert {path.name for path in (tmp_path / source).iterdir()} == {
            path.name for path in (RECIPES.parent / source).iterdir()}


def test_what_is_there_stays_and_what_does_not_come_along_is_said(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mlp-digits.toml").write_text("mine")
    with pytest.raises(BadInput, match="is there and says something else"):
        copied("mlp-digits", tmp_path)
    assert (tmp_path / "recipes/mlp-digits.toml").read_text() == "mine"
    with pytest.raises(BadInput, match='"mlp-digit" does not come with Twinscale.*mlp-digits'):
        copied("mlp-digit", tmp_path)


def test_samples_are_in_the_package():
    asked = tomllib.loads(PYPROJECT.read_text())["tool"]["setuptools"]["package-data"]["twinscale.recipes"]
    packed = {path for pattern in asked for path in RECIPES.glob(pattern)}
    assert packed >= {path for path in (RECIPES / "data").rglob("*") if path.is_file()}
