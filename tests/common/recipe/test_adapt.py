"""The table [adapt]: what it does not go with, and the recipes that say nothing of it."""

import tomllib

import pytest

from twinscale.common.recipe.adapt import Adapt
from twinscale.common.recipe.file import dumps, of_values
from twinscale.common.recipe.schema import Recipe

DECODER = {"name": "x", "data": {"source": "stdlib"}, "model": {"family": "decoder", "width": 16, "heads": 2}}
MLP = {"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}}
LORA = {"kind": "lora", "targets": ["layer_*.kernel"]}


def test_the_product_counts_alpha_over_rank():
    assert Adapt(kind="lora", rank=4, alpha=2.0).scale == 0.5


def test_recipes_without_adapters_keep_their_hash_and_those_with_have_another():
    plain, adapted = (Recipe.model_validate(MLP | more) for more in ({}, {"adapt": LORA}))
    assert plain.hash == Recipe.model_validate(MLP | {"adapt": {"kind": "none"}}).hash != adapted.hash
    assert plain.meaning != adapted.meaning and plain.with_values(adapt=LORA) == adapted
    assert of_values(tomllib.loads(dumps(adapted)), "x") == adapted


def test_a_model_whose_bottleneck_adapters_are_trained_keeps_them_when_the_training_is_over():
    plain, adapted = (Recipe.model_validate(DECODER | more) for more in ({}, {"adapt": {"kind": "bottleneck"}}))
    assert adapted.model.bottleneck == adapted.adapt.width == 64 and plain.model.bottleneck == 0
    assert of_values(tomllib.loads(dumps(adapted)), "x") == adapted and adapted.hash != plain.hash
    left = adapted.with_values(adapt=Adapt())
    assert left.model.bottleneck == 64 and left.adapt.kind == "none"
    assert left.with_values(model={"bottleneck": 0}) == plain


def test_keys_that_came_later_leave_the_hashes_of_recipes_without_them():
    told = Recipe.model_validate(MLP | {"adapt": LORA})
    assert told.later["adapt"] == {"width", "dropout"} and "bottleneck" in Recipe.model_validate(DECODER).later["model"]
    assert told.with_values(adapt={"dropout": 0.1}).hash != told.hash


@pytest.mark.parametrize(("more", "said"), [
    ({"compress": {"stages": [{"kind": "quantize", "steps": 5}]}}, "stages of a compression train all of a model"),
    ({"optimizer": {"keras": "a.py:make", "jax": "a.py:make"}}, "your own optimizers move"),
    ({"adapt": {"kind": "lora", "rank": 0}}, "rank"), ({"adapt": {"kind": "lora", "dropout": 1.0}}, "dropout"),
    ({"adapt": {"kind": "lora", "width": 8}}, 'adapt.width=8 is not of adapt.kind="lora": leave it out'),
    ({"adapt": {"kind": "bottleneck", "rank": 2}}, 'adapt.rank=2 is not of adapt.kind="bottleneck"'),
    ({"adapt": {"kind": "bottleneck"}}, 'adapt.kind="bottleneck": model.family="mlp" has no blocks of attention'),
    (DECODER | {"adapt": {"kind": "bottleneck", "width": 4}, "model": DECODER["model"] | {"bottleneck": 8}},
     "model.bottleneck=8 is another width than adapt.width=4: set both, or leave model.bottleneck out")])
def test_what_does_not_go_together_is_refused(more, said, tmp_path, monkeypatch, trusting):
    (tmp_path / "a.py").write_text("def make(**options):\n    return None\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(MLP | {"adapt": LORA} | more)
