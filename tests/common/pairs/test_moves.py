"""Decisions made otherwise: what changes, in all blocks at once, and what stays."""

import pytest

from twinscale.common.pairs.moves import (
    State,
    classes_of,
    kinds_moves,
    modules_moves,
    orders,
    pattern_of,
    regroupings,
    swaps,
)
from twinscale.common.pairs.names import matched_by_names, sizes_of
from twinscale.common.pairs.tensors import Tensor

A = [Tensor(f"layer_{i}/{name}/{leaf}", shape) for i in range(3) for name in ("query", "key", "value")
     for leaf, shape in (("kernel", (6, 6)), ("bias", (6,)))] + [Tensor("head/kernel", (6, 4))]
B = [Tensor(tensor.path.replace("layer_", "h/"), tensor.shape) for tensor in A]
SIZES = sizes_of(A, B)


@pytest.fixture
def state():
    return State(tuple(matched_by_names(A, B)[0]))


def made(state):
    return {line.b: line.text for line in state.lines}


def test_a_class_is_the_same_module_of_all_blocks(state):
    classes = classes_of(state)
    assert [pattern_of(members) for members in classes] == ["h/#/query", "h/#/key", "h/#/value", "head"]
    assert len({shared for shared in classes.values()}) == 2


def test_two_kinds_change_places_in_all_blocks_and_back(state):
    move = next(swaps(classes_of(state), SIZES))
    assert move.of == ("h/#/query", "h/#/key")
    new = move.made(state)
    assert made(new)["h/2/query/kernel"] == "layer_2/key/kernel" and made(new)["h/0/key/bias"] == "layer_0/query/bias"
    assert made(move.made(new)) == made(state) != made(new)


def test_all_kernels_are_turned_first_and_stay_turned_where_kinds_change_places(state):
    first = next(kinds_moves(state, classes_of(state), SIZES))
    turned = first.made(state)
    assert first.what == "turned" and made(turned)["h/1/key/kernel"] == "layer_1/key/kernel | transpose 1 0"
    swapped = next(swaps(classes_of(state), SIZES)).made(turned)
    assert made(swapped)["h/1/key/kernel"] == "layer_1/query/kernel | transpose 1 0"


def test_single_modules_change_places_neighbours_first(state):
    moves = list(modules_moves(next(iter(classes_of(state))), SIZES))
    assert [move.of for move in moves] == [("h/0/query", "h/1/query"), ("h/1/query", "h/2/query"),
                                           ("h/0/query", "h/2/query")]
    assert made(moves[0].made(state))["h/1/query/bias"] == "layer_0/query/bias"


def test_every_order_of_three_kinds_those_that_move_two_first(state):
    moves = list(orders(classes_of(state), SIZES))
    assert [len(move.of) for move in moves] == [2, 2, 2, 3, 3]
    new = made(moves[3].made(state))
    assert all(name.split("/")[2] not in text for name, text in new.items() if name.startswith("h/"))


def test_any_two_of_three_modules_of_one_size_may_lie_in_the_one_of_the_other_side():
    """Both tensors of a module change places together, and the third is what is left."""
    a = [Tensor(f"{name}/{leaf}", shape) for name in ("update", "reset", "new") for leaf, shape in (
        ("kernel", (10, 6)), ("bias", (6,)))]
    b = [Tensor("candidate/w", (10, 6)), Tensor("candidate/b", (6,)), Tensor("gates/w", (10, 12)),
         Tensor("gates/b", (12,))]
    parts, _, _ = matched_by_names(a, b)
    state = State(tuple(parts))
    found = {tuple(sorted(made(move.made(state)).items())) for move in regroupings(state, a, sizes_of(a, b))}
    singles = {dict(one)["candidate/w"] for one in found}
    assert len(singles | {made(state)["candidate/w"]}) == 3
    for one in map(dict, found):
        single = one["candidate/w"].partition("/")[0]
        assert one["candidate/b"] == f"{single}/bias" and single not in one["gates/w"] and single not in one["gates/b"]
