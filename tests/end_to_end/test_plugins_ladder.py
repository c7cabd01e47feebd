"""The whole ladder over what somebody else has written, a file each: a family of images and one of text that is no
decoder, a source of data, an optimizer, a schedule, a metric and an objective."""

import shutil
from pathlib import Path

import pytest

from twinscale.benchmarks.compare import compared
from twinscale.common.recipe.file import given

PLUGINS = Path(__file__).parents[2] / "docs" / "plugins"
SHORT = '[train]\nglobal_batch = 16\nsteps = 12\nmetrics = [{metrics}]\n[compare]\nfloat64_steps = 8\n'
RECIPES = {
    "images": '[data]\nsource = "stripes.py:STRIPES"\n[model]\nfamily = "one_layer.py:ONE_LAYER"\n'
              '[optimizer]\nname = "theirs.py:RMSPROP"\nlearning_rate = 1e-3\n'
              '[schedule]\nkind = "theirs.py:INVERSE_ROOT"\nwarmup = 2\ntimescale = 8\n'
              '[objective]\nname = "theirs.py:FOCAL"\n' + SHORT.format(metrics='"theirs.py:BRIER"'),
    "text": '[data]\nsource = "stdlib"\nsequence = 32\nmax_documents = 200\n[model]\nfamily = "bag.py:BAG"\n'
            + SHORT.format(metrics="")}


@pytest.fixture(params=RECIPES)
def file(request, tmp_path):
    """The recipe beside copies of the files: outside of the package, and of the checkout."""
    for plugin in PLUGINS.glob("*.py"):
        shutil.copy(plugin, tmp_path)
    file = tmp_path / "recipe.toml"
    file.write_text(f'name = "outside"\n{RECIPES[request.param]}')
    return file


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_every_rung_holds_of_what_is_added(file, tmp_path, precision):
    verdict = compared(given(file, [f"train.precision={precision}"]), tmp_path / "out")
    names = ["P0", "P1", "P2", "P3", "P4"] + ["P5"] * (precision != "float64")
    assert [rung.name for rung in verdict.rungs] == names
    assert not [(rung.name, rung.where) for rung in verdict.rungs if not rung.agrees]
    assert verdict.agrees and not verdict.failed
    if "BRIER" in file.read_text():
        assert all("brier" in verdict.held_out[backend] for backend in ("keras", "jax"))


@pytest.mark.slow
def test_the_rungs_that_are_asked_for_hold_of_what_is_added_too(file, tmp_path):
    verdict = compared(given(file), tmp_path / "out", operations=True, meshes=True, seeds=4)
    assert [rung.name for rung in verdict.rungs] == [f"P{i}" for i in range(8)]
    assert not [(rung.name, rung.where) for rung in verdict.rungs if not (rung.agrees or rung.conclusive is False)]
    assert not verdict.failed
