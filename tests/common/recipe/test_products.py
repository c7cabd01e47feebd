"""`train.products` goes with blocks in a precision that rounds, and with nothing that has products of its own."""

import pytest
from pydantic import ValidationError

from twinscale.common.recipe.schema import Recipe, in_sharpest

DECODER = {"family": "decoder", "layers": 1, "width": 8, "heads": 2}


def recipe_of(model=DECODER, **sections):
    return Recipe.model_validate({"name": "p", "model": model, "train": {"products": "int8"}, **sections})


@pytest.mark.parametrize("model, sections, said", [
    (DECODER, {"train": {"products": "int8", "precision": "float64"}}, "float64"),
    ({"family": "mlp"}, {"data": {"source": "digits"}}, "has none"),
    (DECODER, {"adapt": {"kind": "lora"}}, "adapters")])
def test_what_it_does_not_go_with_is_named(model, sections, said):
    with pytest.raises(ValidationError, match=f'train.products="int8".*{said}'):
        recipe_of(model, **sections)


def test_it_decides_the_numbers_and_float64_is_without():
    recipe = recipe_of()
    full = recipe.with_values(train={"products": "full"})
    assert recipe.hash != full.hash and recipe.meaning != full.meaning
    assert in_sharpest(recipe).train.products == "full"
