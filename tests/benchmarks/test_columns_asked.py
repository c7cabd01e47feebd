"""Columns that a comparison is asked for, and recipes that none of them can train."""

import pytest

from tests.pair_of_nobody import foreign
from twinscale.benchmarks.columns_asked import check_columns, columns_in, of_columns, parse_columns
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import given

THREE = ("keras", "keras-jax", "jax")


def of_one(folder):
    """What makes a pair one of two Keras programs."""
    return {"keras": "", "flax": "", "framework": "keras", **dict.fromkeys("ab", f"{folder}/mine.py:build")}


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
    (lambda folder: foreign(folder, of_one(folder)), False,
     'model.framework = "keras": --columns takes no two programs')])
def test_what_no_column_can_do_is_refused_and_is_no_matter_without_columns(tmp_path, recipe, swap, said):
    made = recipe(tmp_path)
    with pytest.raises(BadInput, match=said):
        check_columns(made, ("keras", "keras-jax"), swap)
    check_columns(made, (), swap)


def test_a_keras_program_of_the_users_and_its_port_have_columns(tmp_path):
    check_columns(foreign(tmp_path), ("keras", "keras-jax"))
