"""The table [adapt]: what it does not go with, and the recipes that say nothing of it."""

import tomllib

import pytest

from twinscale.common.recipe.adapt import Adapt
from twinscale.common.recipe.file import dumps, of_values
from twinscale.common.recipe.schema import Recipe

MLP = {"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}}
LORA = {"kind": "lora", "targets": ["layer_*.kernel"]}


def test_the_product_counts_alpha_over_rank():
    assert Adapt(kind="lora", rank=4, alpha=2.0).scale == 0.5


def test_recipes_without_adapters_keep_their_hash_and_those_with_have_another():
    plain, adapted = (Recipe.model_validate(MLP | more) for more in ({}, {"adapt": LORA}))
    assert plain.hash == Recipe.model_validate(MLP | {"adapt": {"kind": "none"}}).hash != adapted.hash
    assert plain.meaning != adapted.meaning and plain.with_values(adapt=LORA) == adapted
    assert of_values(tomllib.loads(dumps(adapted)), "x") == adapted


@pytest.mark.parametrize(("more", "said"), [
    ({"compress": {"stages": [{"kind": "quantize", "steps": 5}]}}, "stages of a compression train all of a model"),
    ({"optimizer": {"keras": "a.py:make", "jax": "a.py:make"}}, "your own optimizers move"),
    ({"adapt": {"kind": "lora", "rank": 0}}, "rank")])
def test_what_does_not_go_together_is_refused(more, said, tmp_path, monkeypatch, trusting):
    (tmp_path / "a.py").write_text("def make(**options):\n    return None\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(MLP | {"adapt": LORA} | more)
