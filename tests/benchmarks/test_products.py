"""What is said of products in 8 bits, which one backend alone has."""

from pathlib import Path

import pytest

from twinscale.benchmarks.compare import check_asked
from twinscale.benchmarks.products import judged_products, show
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "p", "train": {"products": "int8"},
                                "model": {"family": "decoder", "layers": 1, "width": 8, "heads": 2}})
EACH = pytest.mark.parametrize("recipe", [RECIPE, RECIPE.with_values(train={"products": "fp8"})],
                               ids=lambda recipe: recipe.train.products)


def row(place, error):
    return {"place": place, "operation": "linear", "way": "forward", "tensor": f"forward/{place}", "error": error,
            "bound": 10.0, "beside": None, "rare": None}


@EACH
def test_what_is_above_its_bound_is_named_and_what_is_open_is_said(recipe, capsys):
    found = {"generic": {"own": [row("block_0.attention.query", 9.0), row("head", 1.0)], "float64": []}}
    good = judged_products(recipe, found)
    assert good["agrees"] and "all 2 checks" in good["sentence"] and "nothing is said of P2 to P7" in good["sentence"]
    assert f'no products as train.products="{recipe.train.products}"' in good["sentence"]
    found["generic"]["own"][0] = row("block_0.attention.query", 11.0)
    bad = judged_products(recipe, found)
    assert not bad["agrees"] and "1 of 2" in bad["sentence"]
    show(bad)
    shown = capsys.readouterr().out
    assert "ABOVE" in shown and "block_0.attention.query, forward at the generic point" in shown and "head" not in shown


@EACH
def test_a_comparison_of_both_backends_refuses_it(recipe):
    with pytest.raises(BadInput, match=f'train.products="{recipe.train.products}": Keras has no such products'):
        check_asked(recipe, Path("nowhere"), False, False)
