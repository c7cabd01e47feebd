"""Families from outside: a recipe takes one by a file's object, with the file's content in its hash."""

import tomllib

import pytest

from twinscale.common.errors import BadInput, TwinscaleError
from twinscale.common.families import FAMILIES, family_of, reads_text, traits_of
from twinscale.common.families.places import OPERATIONS
from twinscale.common.operations.rounding import backward_bound, forward_bound
from twinscale.common.recipe.file import dumps, of_values
from twinscale.common.recipe.file import given as load
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import load as load_object
from twinscale.common.sources import opened

PLUG_IN = """
from twinscale.common.families import Family
from twinscale.common.section import Section

class Options(Section):
    family: str
    width: int = 8

FAMILY = Family("tiny", Options, "images", lambda m, classes, shape: {}, lambda m, place: None)
TEXT = Family("words", Options, "text", FAMILY.tree, FAMILY.places)
"""


@pytest.fixture
def recipe(tmp_path):
    """The file of a recipe whose family is that of a file beside it."""
    (tmp_path / "mine.py").write_text(PLUG_IN)
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\n[data]\nsource = "digits"\n[model]\nfamily = "mine.py:FAMILY"\nwidth = 3\n')
    return path


def test_a_file_beside_the_recipe_is_a_family_with_options_of_its_own(recipe):
    found = load(recipe)
    assert family_of(found.model).name == "tiny" and found.model.width == 3
    assert not reads_text(found.model) and traits_of(found.model).attention is None
    again = of_values(tomllib.loads(dumps(found)), "a run's own recipe")
    assert again == found == Recipe.model_validate(found.model_dump()) == Recipe.model_validate(dict(found))
    assert again.hash == found.hash and found.with_values(train={"steps": 3}).model == found.model


def test_what_a_file_says_is_in_the_hash_and_where_it_lies_is_not(recipe, tmp_path):
    before = load(recipe).hash
    other = tmp_path / "other"
    other.mkdir()
    for name in ("mine.py", "recipe.toml"):
        (other / name).write_text((tmp_path / name).read_text())
    assert load(other / "recipe.toml").hash == before
    (other / "mine.py").write_text(PLUG_IN + "# more\n")
    assert load(other / "recipe.toml").hash != before


@pytest.mark.parametrize(("override", "said"), [
    ("model.widht=3", 'did you mean "model.width"?'), ("model.width=no", "model.width"),
    ("model.family=mlpp", 'expected one of "decoder", "convnet", "mlp", "encoder", "pair", "resnet", "vit"; '
     'did you mean "mlp"?'),
    ("model.family=nowhere.py:FAMILY", "no such file"), ("model.family=no_such_module:FAMILY", "no_such_module"),
    ("data.source=stdlib", 'holds text, which model.family="mine.py:FAMILY" does not read')])
def test_what_is_wrong_is_one_line(recipe, override, said):
    with pytest.raises(TwinscaleError) as error:
        load(recipe, [override])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_installed_package_adds_a_family_and_a_source_by_name(recipe, tmp_path, monkeypatch):
    (tmp_path / "installed_family.py").write_text(PLUG_IN + "from twinscale.common.sources import Source\n"
                                                  "NOTHING = Source('images', str, images=str)\n")
    info = tmp_path / "installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[twinscale.families]\ntiny = installed_family:FAMILY\n"
                                           "[twinscale.sources]\nnothing = installed_family:NOTHING\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = load(recipe, ["model.family=tiny", "data.source=nothing"])
    assert found.model.family == "tiny" and family_of(found.model).name == "tiny"
    assert found.data.source == "nothing" and opened(found.data)[0].holds == "images"


def test_text_is_refused_what_is_for_images(recipe):
    recipe.write_text(recipe.read_text().replace("mine.py:FAMILY", "mine.py:TEXT").replace("digits", "stdlib"))
    assert reads_text(load(recipe).model)
    with pytest.raises(BadInput, match='images, but model.family="mine.py:TEXT" reads text'):
        load(recipe, ['data.augment=["flip"]'])


def test_own_families_come_through_the_same_door():
    assert [load_object(FAMILIES, name).name for name in FAMILIES.builtin] == list(FAMILIES.builtin)


@pytest.mark.parametrize(("values", "said"), [
    ({"reads": "sounds"}, "one of text, images, arrays"), ({"options": dict}, "family: str"),
    ({"name": "a b"}, "letters")])
def test_a_family_that_is_not_whole_is_refused_where_it_is_made(values, said):
    own = load_object(FAMILIES, "mlp")
    with pytest.raises(BadInput, match=said):
        type(own)(**{**vars(own), **values})


def test_every_operation_of_a_place_has_its_bounds():
    for operation in OPERATIONS:
        assert forward_bound(operation, 8).wide > 0 and backward_bound(operation, 8).wide > 0
