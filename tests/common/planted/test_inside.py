"""Which places of a pair are named, on which side, and what a change at a place is called."""

from types import SimpleNamespace

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.planted.inside import PAIR, Spot, offered, parted, spots, swapped, unseen

TENSORS = (Tensor("conv/kernel", (3, 3, 1, 8)), Tensor("norm/gamma", (8,)), Tensor("norm/beta", (8,)),
           Tensor("norm/moving_mean", (8,), False), Tensor("norm/moving_variance", (8,), False),
           Tensor("fc/kernel", (8, 8)), Tensor("fc/bias", (8,)), Tensor("head/kernel", (8, 8)))
MODULES = [("conv", "stem"), ("norm", "bn"), ("fc", "fc1"), ("fc", "fc1")]  # the head was seen beside nobody
CHANGES = {"plain": SimpleNamespace(recipe="dense"), "scaled_output": SimpleNamespace(recipe=PAIR)}


def of(kind):
    return [tuple(spot)[1:] for spot in spots(TENSORS, MODULES) if spot.kind == kind]


def test_each_module_is_planted_in_once_under_its_own_sides_path_on_either_side_by_turns():
    assert of("scaled_output") == [("keras", "conv", "conv"), ("jax", "bn", "norm"), ("keras", "fc", "fc")]
    assert of("missing_gradient") == [("jax", "stem", "conv"), ("keras", "norm", "norm"), ("jax", "fc1", "fc")]
    assert [at for _, at, _ in of("equal_einsum")] == ["conv", "bn", "fc"]
    assert unseen(TENSORS, MODULES) == ["head"]


def test_each_module_has_a_frozen_tensor_and_one_without_a_gradient_of_those_that_are_trained():
    assert [at for _, at, _ in of("frozen_tensor")] == ["conv.kernel", "norm.bias", "fc.kernel", "head.kernel"]
    assert {backend for backend, _, _ in of("frozen_tensor")} == {"keras", "jax"}
    assert all(at == where for _, at, where in of("frozen_tensor"))  # by itself in the optimizer
    assert [where for _, _, where in of("lost_gradient")] == ["conv", "norm", "fc", "head"]
    assert [at for _, at, _ in of("lost_gradient")] == ["conv.kernel", "norm.scale", "fc.bias", "head.kernel"]


def test_tensors_of_one_shape_change_places_of_one_role_first_and_are_found_at_the_first_of_their_modules():
    assert [(at, where) for _, at, where in of("swapped_tensors")] == [
        ("norm/beta&fc/bias", "norm"), ("fc/bias&norm/gamma", "norm"),
        ("norm/moving_mean&norm/moving_variance", "norm"), ("fc/kernel&head/kernel", "fc")]


def test_tensors_change_places_alone_or_both():
    assert swapped({"a": 1, "b": 2, "c": 3}, "a&b") == {"b": 1, "a": 2, "c": 3}
    assert swapped({"a": 1}, "a&b") == {"b": 1}


def test_a_change_is_named_with_its_place_where_it_has_one():
    assert parted("plain", CHANGES) == (CHANGES["plain"], ())
    assert parted("scaled_output@a/b", CHANGES) == (CHANGES["scaled_output"], ("a/b",))
    for name, said in (("no_such", "nothing to plant has that name; known here: plain, scaled_output"),
                       ("plain@fc", "planted at no place"), ("scaled_output", "write scaled_output@PLACE")):
        with pytest.raises(BadInput, match=said):
            parted(name, CHANGES)


def test_what_is_planted_at_places_is_listed_once_for_each_and_otherwise_not_at_all():
    listed = {"keras": {"plain": {"recipe": "dense"}, "scaled_output": {"recipe": PAIR, "where": "*", "meaning": "m"}},
              "jax": {"scaled_output": {"recipe": PAIR, "where": "*", "meaning": "n"}}}
    assert offered(listed, ()) == {"keras": {"plain": {"recipe": "dense"}}, "jax": {}}
    found = offered(listed, [Spot("scaled_output", "jax", "fc1", "fc")])
    assert found["jax"] == {"scaled_output@fc1": {"recipe": PAIR, "where": "fc", "meaning": "n"}}
    assert found["keras"] == {"plain": {"recipe": "dense"}}
