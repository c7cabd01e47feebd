"""Stages as recipes of their own, and the teachers that they learn from."""

import pytest

from tests.common.compress.test_rules import described
from twinscale.common.compress import recipes as compress_recipes
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import dumps, load


@pytest.mark.parametrize(("data", "said"), [
    ({"tokenizer": "bpe"}, 'another vocabulary: data.tokenizer="bpe" there'),
    ({"sequence": 32}, "another length of rows: data.sequence=32 there")])
def test_a_teacher_with_another_vocabulary_is_refused(data, said):
    recipe = described({"kind": "distil", "teacher": "runs/teacher"}, family="decoder")
    taught = recipe.with_values(data=data, compress={"stages": ()})
    with pytest.raises(BadInput, match=said.replace('"', "['\"]")):
        compress_recipes.resolved(recipe, lambda path: (taught, {}))


def test_a_teachers_model_becomes_part_of_the_recipe():
    recipe = described({"kind": "distil", "teacher": "runs/teacher"}, family="decoder")
    taught = recipe.with_values(model={"layers": 4}, compress={"stages": ()})
    found, teachers = compress_recipes.resolved(recipe, lambda path: (taught, {"a": 1}))
    assert found.compress.stages[0].teacher_model.layers == 4 and teachers == {0: {"a": 1}}
    assert compress_recipes.teacher_model(compress_recipes.stage_recipe(found, 0)) == taught.model


def test_a_stage_is_a_recipe_that_survives_a_file(tmp_path):
    recipe = described({"kind": "distil", "student": {"hidden": (8,)}}, {"kind": "prune"}, {"kind": "post_training"})
    for number in range(3):
        stage = compress_recipes.stage_recipe(recipe, number)
        (tmp_path / "stage.toml").write_text(dumps(stage))
        assert load(tmp_path / "stage.toml", []) == stage and hash(stage)
        assert stage.model.hidden == (8,) and len(stage.compress.stages) == number + 1
    hashes = {recipe.hash, *(compress_recipes.stage_recipe(recipe, n).hash for n in range(3))}
    seeds = {recipe.seed, *(compress_recipes.stage_recipe(recipe, n).seed for n in range(3))}
    assert len(hashes) == len(seeds) == 4
