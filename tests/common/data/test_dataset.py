"""Sources of data from outside: an object of a file, with keys of its own in [data]."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import given as load
from twinscale.common.recipe.schema import Data, Recipe

PLUGINS = Path(__file__).parents[3] / "docs" / "plugins"
SENTENCES = """
import numpy as np

from twinscale.common.sources import Data, Source

class Options(Data):
    word: str = "one"

def documents(data, argument):
    return ((f"book:{i}", f"{data.word} and {i} more") for i in range(40))

SENTENCES = Source("text", lambda data, argument: 1, documents, file_of=lambda name: name.partition(":")[0],
                   options=Options)
BROKEN = Source("images", lambda data, argument: 2, images=lambda data, argument: (np.zeros((2, 4, 4)), [], 1))
"""


@pytest.fixture
def written(tmp_path):
    """written(source, family, more): the file of a recipe beside the files of sources."""
    shutil.copy(PLUGINS / "stripes.py", tmp_path)
    (tmp_path / "texts.py").write_text(SENTENCES)

    def write(source, family, more=""):
        path = tmp_path / "recipe.toml"
        path.write_text(f'name = "x"\n[data]\nsource = "{source}"\nheld_out = 0.3\n{more}\n'
                        f'[model]\nfamily = "{family}"\n')
        return path

    return write


def test_images_of_a_file_with_a_key_of_their_own(written, empty_cache):
    recipe = load(written("stripes.py:STRIPES", "mlp", "side = 6"))
    dataset = open_dataset(recipe)
    assert (dataset.classes, dataset.example_shape) == (3, (6, 6, 1)) and dataset.manifest["labels"][0] == "wide"
    assert dataset.train.take(np.arange(4))["inputs"].shape == (4, 6, 6, 1)
    larger = load(written("stripes.py:STRIPES", "mlp", "side = 6"), ["data.side=8"])
    assert open_dataset(larger).example_shape == (8, 8, 1) and larger.hash != recipe.hash  # not what is in the cache
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_texts_of_a_file_are_tokenised_by_the_value_of_their_own_key(written, empty_cache):
    recipe = load(written("texts.py:SENTENCES", "decoder", "sequence = 8"))
    dataset, other = open_dataset(recipe), open_dataset(recipe.with_values(data={"word": "two"}))
    assert dataset.manifest["sha256"] != other.manifest["sha256"]
    assert [line.split()[1] for line in dataset.files.read_text().splitlines()] == ["book"]


def test_another_source_drops_the_keys_that_only_the_old_one_knew(written):
    recipe = load(written("texts.py:SENTENCES", "decoder", 'word = "two"'))
    assert type(recipe.with_values(data={"source": "stdlib"}).data) is Data
    assert recipe.with_values(data={"sequence": 8}).data.word == "two"


@pytest.mark.parametrize(("override", "said"), [
    ("data.side=3", "data.side = 3: expected 4 or more"), ("data.sid=8", 'did you mean "data.side"?'),
    ("data.source=digits", 'key "data.side": unknown key'),
    ("model.family=decoder", 'data.source="stripes.py:STRIPES" holds images')])
def test_what_is_wrong_is_one_line(written, override, said):
    with pytest.raises(BadInput) as error:
        load(written("stripes.py:STRIPES", "mlp", "side = 6"), [override])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_images_that_are_none_are_refused(written, empty_cache):
    with pytest.raises(BadInput, match='"texts.py:BROKEN": its images are float64 .2, 4, 4. with 0 labels'):
        open_dataset(load(written("texts.py:BROKEN", "mlp")))


WORDS = ["alpha beta gamma " * 9 + str(i) for i in range(40)]


def refused(recipe, *parts):
    """The one line that refuses `recipe`, which has all of `parts`."""
    with pytest.raises(BadInput) as caught:
        open_dataset(recipe)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line
    return line


def test_sequence_longer_than_any_document(recipe, corpus):
    refused(recipe(corpus(["ab" * i for i in range(1, 40)]), sequence=128, held_out=0.5), "data.sequence=128",
            "take at most")


def test_fewer_examples_than_a_batch(recipe, corpus):
    refused(recipe(corpus(WORDS), sequence=64, batch=5000, held_out=0.5), "train.global_batch=5000", "lower it")
    refused(recipe("digits", batch=4096), "train.global_batch=4096", 'data.source="digits"')


def test_the_wrong_kind_for_the_model():
    whole = Recipe.model_validate({"name": "a", "model": {"family": "decoder"}})
    image = Recipe.model_validate({"name": "a", "model": {"family": "mlp"}, "data": {"source": "digits"}})
    refused(whole.model_copy(update={"data": image.data}), 'data.source="digits"', 'model.family="decoder" reads text')
    refused(image.model_copy(update={"data": whole.data}), 'data.source="stdlib"', 'model.family="mlp" reads images')
