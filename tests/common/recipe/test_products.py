"""`train.products` goes with blocks in a precision that rounds, and with nothing that has products of its own."""

import pytest
from pydantic import ValidationError

from twinscale.common.operations.quantised import PRODUCTS
from twinscale.common.recipe.schema import Recipe, in_sharpest

DECODER = {"family": "decoder", "layers": 1, "width": 8, "heads": 2}


KINDS = pytest.mark.parametrize("kind", PRODUCTS)


def recipe_of(kind, model=DECODER, train=(), **sections):
    return Recipe.model_validate({"name": "p", "model": model, "train": {"products": kind, **dict(train)}, **sections})


@KINDS
@pytest.mark.parametrize("model, sections, said", [
    (DECODER, {"train": {"precision": "float64"}}, "float64"),
    ({"family": "mlp"}, {"data": {"source": "digits"}}, "has none"),
    (DECODER, {"jax": {"fused": True}}, "jax.fused=true"),
    (DECODER, {"adapt": {"kind": "lora"}}, "adapters")])
def test_what_it_does_not_go_with_is_named(kind, model, sections, said):
    with pytest.raises(ValidationError, match=f'train.products="{kind}".*{said}'):
        recipe_of(kind, model, **sections)


def test_it_decides_the_numbers_and_float64_is_without():
    recipes = [recipe_of(kind) for kind in ("full", *PRODUCTS)]
    for said in ("hash", "meaning"):
        assert len({getattr(recipe, said) for recipe in recipes}) == len(recipes) == 3, said
    assert {in_sharpest(recipe).train.products for recipe in recipes} == {"full"}
