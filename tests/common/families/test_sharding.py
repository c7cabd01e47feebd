"""Rules by which the tensors of a program of somebody's own lie on a mesh."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.sharding import Sharding, axes_of, check_rules

SHAPES = {"block_0.query.kernel": (8, 12), "block_0.query.bias": (12,), "head.kernel": (12, 10), "scale": ()}
RULES = (("*.query.kernel", ("fsdp", "tensor")), ("*.bias", ("tensor",)))


def test_the_first_rule_that_knows_a_name_says_how_it_lies_and_else_fsdp_takes_the_longest_dimension():
    assert axes_of(RULES, "block_0.query.kernel", (8, 12), 2) == ("fsdp", "tensor")
    assert axes_of(RULES, "block_0.query.bias", (12,), 2) == ("tensor",)
    assert axes_of(RULES, "head.kernel", (12, 10), 2) == ("fsdp", "")
    assert axes_of(RULES, "head.kernel", (12, 10), 5) == ("", "fsdp")  # the longest that it divides
    assert axes_of(RULES, "head.kernel", (12, 10), 7) == ("", "") and axes_of(RULES, "scale", (), 2) == ()


def test_a_factor_that_an_optimizer_keeps_of_a_tensor_lies_as_one_that_no_rule_knows():
    assert axes_of(RULES, "block_0.query.kernel", (8,), 2) == ("fsdp",)
    assert axes_of(RULES, "block_0.query.kernel", (1,), 2) == ("",)


def test_rules_that_fit_are_silent_on_any_mesh_that_divides():
    for sizes in ({}, {"fsdp": 1, "tensor": 1}, {"fsdp": 4, "tensor": 3}):
        check_rules(Sharding(RULES, SHAPES), sizes)
    check_rules(Sharding((), SHAPES), {"fsdp": 8, "tensor": 1})


@pytest.mark.parametrize("rules, sizes, said", [
    ((("*.querry.kernel", ("fsdp", "tensor")),), {}, r"\*\.querry\.kernel: no tensor is called so"),
    ((("*.kernel", ("fsdp",)),), {}, r"says 1 dimensions, but block_0\.query\.kernel has 2, \(8, 12\)"),
    (RULES, {"tensor": 5}, r"devices\.tensor=5 does not divide 12 of block_0\.query\.kernel \(8, 12\)"),
    ((("*.query.kernel", ("fsdp", "")),), {"tensor": 2}, "devices.tensor=2: no rule of model.shard says which"),
    ((), {"tensor": 2}, "no rule of model.shard")])
def test_rules_that_do_not_fit_are_refused_with_the_tensor(rules, sizes, said):
    with pytest.raises(BadInput, match=said):
        check_rules(Sharding(rules, SHAPES), sizes)
