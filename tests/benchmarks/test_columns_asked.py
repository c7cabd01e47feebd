"""Columns that a comparison is asked for, and recipes that none of them can train."""

import pytest

from tests.pair_of_nobody import foreign
from twinscale.benchmarks.columns_asked import check_columns, columns_in, of_columns, parse_columns
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import given
from twinscale.common.recipe.schema import Recipe

THREE = ("keras", "keras-jax", "jax")


def of_one(folder):
    """The recipe of a pair of two Keras programs."""
    values = foreign(folder).model_dump(mode="json")
    program, _ = (values["model"].pop(key) for key in ("keras", "flax"))
    return Recipe.model_validate({**values, "model": {**values["model"], "framework": "keras", "a": program,
                                                      "b": program}})


def test_columns_have_one_order_and_the_usual_two_are_no_columns():
    assert parse_columns("jax,keras-jax,keras") == parse_columns(["keras", "jax", "keras-jax"]) == THREE
    assert parse_columns(None) == parse_columns("jax,keras") == () and of_columns(()) == {}


def test_what_a_verdict_was_asked_for_names_its_columns_the_usual_ones_too():
    assert columns_in(of_columns(("keras", "jax"))) == ("keras", "jax")  # a pair of three goes by its columns' titles
    assert columns_in({"recipe": "r.toml"}) == columns_in(None) == ()
    with pytest.raises(BadInput, match="'torch'"):
        columns_in({"columns": "keras,torch"})


@pytest.mark.parametrize(("recipe", "swap", "said"), [
    (lambda folder: given("mlp-digits"), True, "^--swap: not with --columns"),
    (lambda folder: given("compress-mlp"), False, r"compress\.stages=\[\]"),
    (of_one, False, 'model.framework = "keras": --columns takes no two programs')])
def test_what_no_column_can_do_is_refused_and_is_no_matter_without_columns(tmp_path, recipe, swap, said):
    made = recipe(tmp_path)
    with pytest.raises(BadInput, match=said):
        check_columns(made, ("keras", "keras-jax"), swap)
    check_columns(made, (), swap)


def test_a_keras_program_of_the_users_and_its_port_have_columns(tmp_path):
    check_columns(foreign(tmp_path), ("keras", "keras-jax"))
