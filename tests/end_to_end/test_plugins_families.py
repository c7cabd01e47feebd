"""Families and a source of data that somebody else has written, a file each: both rooms train them alike."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from twinscale.common.families import FAMILIES, family_of
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.families.places import places
from twinscale.common.recipe.file import given as load
from twinscale.common.sources import SOURCES

PLUGINS = Path(__file__).parents[2] / "docs" / "plugins"
# As in test_rooms_models.py: a chain of 6 contractions of at most K = 64 terms, each off by sqrt(K) eps of its scale,
# added up without cancelling, is 48 eps; a single rounding to float32 on the way costs 2^29 eps.
BOUND = 64 * 2.0**-52
MODELS = {"one_layer": '[data]\nsource = "stripes.py:STRIPES"\nside = 6\n[model]\nfamily = "one_layer.py:ONE_LAYER"\n',
          "bag": '[data]\nsource = "CORPUS"\nsequence = 16\nheld_out = 0.2\n[model]\nfamily = "bag.py:BAG"\n'}


@pytest.fixture(scope="module", params=MODELS)
def recipe(request, corpus, tmp_path_factory):
    """The recipe beside copies of the files: outside of the package, and of the checkout."""
    folder = tmp_path_factory.mktemp("outside")
    for file in PLUGINS.glob("*.py"):
        shutil.copy(file, folder)
    text = MODELS[request.param].replace("CORPUS", corpus)
    (folder / "recipe.toml").write_text(f'name = "outside"\n{text}hidden = 12\n[train]\nglobal_batch = 8\nsteps = 2\n'
                                        'precision = "float64"\n[keras]\njit_compile = false\n')
    return load(folder / "recipe.toml")


def test_both_rooms_make_the_same_of_a_family_from_outside(recipe, first_step):
    assert family_of(recipe.model).name not in FAMILIES.builtin and recipe.data.source not in SOURCES.builtin
    (keras, batch, ours), (jax, _, theirs) = (first_step(room, recipe) for room in ("tfscale", "jaxscale"))
    classes = ours["logits"].shape[-1]
    assert ours["logits"].shape[:-1] == batch["labels"].shape
    tree = parameters(recipe.model, classes, batch["inputs"].shape[1:])
    for name, value in initial_values(tree, recipe.seed, "float64").items():
        assert keras[name].tobytes() == jax[name].tobytes() == value.tobytes(), name
    assert set(ours) == set(theirs) == {"logits", "loss", *(f"gradients/{name}" for name in tree)}
    for name, found in ours.items():
        size = np.abs(theirs[name]).max()
        assert size > 0 and np.abs(np.asarray(found) - theirs[name]).max() <= BOUND * size, name


@pytest.mark.parametrize("room", ["tfscale", "jaxscale"])
def test_every_place_of_a_family_from_outside_is_read(recipe, open_room, room):
    with open_room(room, recipe) as opened:
        taps = opened.room.make_step_taps(recipe, opened.dataset, opened.state, opened.devices)(
            opened.state, 0, opened.batch())
    assert [name.partition("/")[2] for name in taps if name.startswith("forward/")] and {
        name.partition("/")[2] for name in taps if name.startswith("forward/")} == set(places(recipe.model))
