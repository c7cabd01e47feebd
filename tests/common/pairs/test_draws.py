"""Calls of dropout by their order, and what is said where two sides' are not the same."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.numbers.bits import name_word
from twinscale.common.pairs.draws import check_same, draws_of, noted, nothing_drawn, order_of, refused
from twinscale.common.pairs.match import Match

CALLS = ((0.5, (3, 4)), (0.25, (4,)))


def test_each_call_has_a_place_of_its_own_by_its_order():
    draws = nothing_drawn(6)
    words = [noted(draws, "keras", 0.5, (6, 3, 4), 6), noted(draws, "keras", 0.25, (6, 4), 6)]
    assert words == [name_word("dropout_0"), name_word("dropout_1")] and tuple(draws.calls) == CALLS
    noted(draws, "keras", 0.5, (12, 4), 6)  # something of theirs lies beside the rows
    assert draws.calls[2] == (0.5, (2, 4))


@pytest.mark.parametrize("shape", [(5, 4), (1, 4), (), (None, 4)])
def test_a_mask_that_is_not_of_rows_is_refused(shape):
    with pytest.raises(BadInput, match="model.flax: dropout number 1 .* not of the batch's 6 rows"):
        noted(nothing_drawn(6), "flax", 0.5, shape, 6)


def test_a_batch_without_a_key_draws_nothing():
    assert draws_of({"inputs": np.ones(2)}) is None
    found = draws_of({"inputs": np.ones(2), "key": np.zeros(2, np.uint32), "row": np.arange(2)})
    assert found.calls == [] and found.rows.tolist() == [0, 1]


def test_the_same_calls_pass_in_any_type_that_files_give():
    check_same("flax", CALLS, [(0.5 + 1e-12, (3, 4)), (0.25, (4,))])


@pytest.mark.parametrize("calls,said", [
    (CALLS[:1], "number 2 of a forward pass is not there, .* drops 0.25 of .4,. a row"),
    ((*CALLS, CALLS[0]), "number 3 of a forward pass drops 0.5 of .3, 4. a row, .* is not there"),
    (CALLS[::-1], "number 1 .* drops 0.25 of .4,. a row, .* drops 0.5 .*: the same ones, in another order"),
    (((0.5, (4, 3)), CALLS[1]), r"number 1 .* drops 0.5 of .4, 3. a row, .* drops 0.5 of .3, 4."),
    (((0.4, (3, 4)), CALLS[1]), "number 1 .* drops 0.4 .*make them alike, or set model.dropout = .off.")])
def test_the_first_call_that_is_another_is_named(calls, said):
    with pytest.raises(BadInput, match=f"model.flax: dropout {said}"):
        check_same("flax", calls, CALLS)


def test_first_weights_of_before_say_nothing_of_it():
    with pytest.raises(BadInput, match="twinscale match RECIPE. again"):
        check_same("keras", (), None)
    check_same("keras", (), ())


def test_what_else_draws_is_named_with_what_to_do():
    assert "model.keras: a layer draws random numbers of its own" in str(refused("keras", "a layer"))
    assert 'or set model.dropout = "off"' in str(refused("flax", "Noisy"))


def test_the_same_calls_in_another_order_are_told_apart_by_rate_and_shape_and_draw_where_their_likes_do():
    others = (CALLS[1], CALLS[0], CALLS[1])
    assert order_of(others, (CALLS[0], CALLS[1], CALLS[1])) == (1, 0, 2)  # of equal ones in the order of their calls
    assert order_of(CALLS, CALLS) == order_of(CALLS[:1], CALLS) == order_of((*CALLS, CALLS[0]), CALLS) == ()
    check_same("flax", CALLS[::-1], CALLS, (1, 0))
    with pytest.raises(BadInput, match="has 2 calls of dropout, but dropout.order of the match says 3"):
        check_same("flax", CALLS, CALLS, (2, 0, 1))
    batch = {"key": np.zeros(2, np.uint32), "row": np.arange(6)}
    draws = draws_of(batch, Match((), dropout=(1, 0)))
    assert [noted(draws, "flax", rate, (6, *shape), 6) for rate, shape in CALLS[::-1]] == [
        name_word("dropout_1"), name_word("dropout_0")]
