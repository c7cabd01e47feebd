"""Inputs that are drawn: ids below a bound, masks with padding, normal numbers."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.pairs.inputs import Spec, random_inputs

SPECS = {"ids": Spec((7,), "int32", "ids", 11), "mask": ((7,), "int32", "mask", None),
         "other": ((7,), "bool", "mask"), "image": ((4, 4, 3),)}


def test_inputs_are_as_their_specs_say():
    drawn = random_inputs(SPECS, 3, 5)
    assert {name: (x.shape, str(x.dtype)) for name, x in drawn.items()} == {
        "ids": ((5, 7), "int32"), "mask": ((5, 7), "int32"), "other": ((5, 7), "bool"),
        "image": ((5, 4, 4, 3), "float32")}
    assert drawn["ids"].min() >= 0 and drawn["ids"].max() <= 10 and len(np.unique(drawn["ids"])) > 5
    assert 0.5 < drawn["image"].std() < 1.5


def test_a_mask_has_padding_at_the_end_of_every_row_but_the_first():
    mask, other = (random_inputs(SPECS, 3, 5)[name] for name in ("mask", "other"))
    assert mask[0].all() and not mask[1:].all(1).any() and mask.any(1).all()
    assert (np.diff(mask, axis=1) <= 0).all() and np.array_equal(mask, other)
    assert random_inputs({"mask": ((3, 2, 4), "float32", "mask")}, 0, 2)["mask"][1, ..., -1].max() == 0
    assert random_inputs({"mask": ((), "float32", "mask")}, 0, 3)["mask"].shape == (3,)


def test_a_seed_says_it_all_and_names_differ():
    one, same, other = (random_inputs(SPECS, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in SPECS)
    assert not np.array_equal(one["ids"], other["ids"])
    pair = random_inputs({"a": ((9,),), "b": ((9,),)})
    assert not np.array_equal(pair["a"], pair["b"])


@pytest.mark.parametrize("spec, said", [
    (((3,), "int32", "idx", 4), 'x: no kind idx: ids, mask, normal; did you mean "ids"'),
    (((3,), "int32", "ids"), "x: ids are drawn below a bound of one or more, not None"),
    (((3,), "int8", "ids", 300), "x: int8 holds no ids up to 299, but up to 127"),
    (((3,), "float16", "ids", 5000), "x: float16 holds no ids up to 4999, but up to 2048"),
    (((3,), "int32"), "x: normal numbers are floats, not int32"),
    (((3,), "flt"), "x: no dtype flt")])
def test_what_cannot_be_drawn_is_said_with_its_name(spec, said):
    with pytest.raises(BadInput, match=said):
        random_inputs({"x": spec})
    with pytest.raises(BadInput, match="rows: 0"):
        random_inputs(SPECS, rows=0)
