"""Keys of [data] on the quality of texts."""

import re

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.quality import Subset, Thresholds
from twinscale.common.recipe.file import resolve
from twinscale.common.recipe.schema import Recipe
from twinscale.common.sources import Data

TEXT = 'name = "x"\n[model]\nfamily = "decoder"\n'


def recipe_of(family="decoder", **data):
    return Recipe.model_validate({"name": "x", "data": data, "model": {"family": family}})


def test_rules_thresholds_and_subsets_are_of_the_hash_and_their_absence_is_not():
    plain = recipe_of()
    others = [recipe_of(quality=["near"]), recipe_of(quality=["exact"]), recipe_of(subset={"share": 0.5}),
              recipe_of(subset={"share": 0.5, "seed": 1}),
              recipe_of(quality=["near"], quality_options={"near_similarity": 0.7})]
    assert len({plain.hash, *(one.hash for one in others)}) == len({plain.meaning, *(
        one.meaning for one in others)}) == 6
    assert recipe_of(quality=[], subset={"share": 1.0}, quality_options={}).hash == plain.hash
    assert not Data().chooses and all(one.data.chooses for one in others)


@pytest.mark.parametrize(("override", "said"), [
    ('data.quality=["nigh"]', '"nigh": expected one of "length", "symbols", "repetition", "c4", "exact", "near"'),
    ("data.quality_options.lines_most=2", "expected 1 or less"),
    ("data.subset.share=0", "above 0"), ("data.subset.tokens=3", "unknown key")])
def test_what_is_none_of_them_is_refused(override, said, tmp_path):
    (tmp_path / "r.toml").write_text(TEXT)
    with pytest.raises(BadInput, match=said):
        resolve(tmp_path / "r.toml", [override])


def test_rules_of_texts_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match=re.escape('data.quality is of texts, which data.source="digits" has not')):
        recipe_of("mlp", source="digits", quality=["exact"])
    with pytest.raises(ValueError, match=re.escape('data.subset is of texts, which data.source="random" has not')):
        recipe_of("encoder", source="random", subset={"documents": 3})
    recipe_of("encoder", source="jsonl:x", tokenizer="wordpiece", subset={"documents": 3})


def test_each_threshold_says_of_which_rule_it_is_and_stands_on_one_side():
    for name, field in Thresholds.model_fields.items():
        assert re.match(r"of (length|symbols|repetition|c4|near): ", field.description)
        assert field.description.startswith("of near") or name.endswith(("_least", "_most"))
    assert Subset().share == 1
