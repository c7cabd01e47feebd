"""What traces are named by."""

import pytest

from twinscale.common.operations.points import POINTS
from twinscale.common.training.trace import digest_of_manifest, step_of


def test_points_are_at_the_first_step_and_a_file_is_at_that_of_its_name():
    assert {step_of(point) for point in POINTS} == {0}
    assert step_of("/a/run/trace/step_12.safetensors") == 12
    with pytest.raises(ValueError):
        step_of("/a/run/trace/final.safetensors")


def test_a_manifest_is_known_by_what_it_says_in_whatever_order():
    one = {"train": {"documents": 3}, "held_out": {"documents": 1}}
    assert digest_of_manifest(one) == digest_of_manifest(dict(reversed(one.items())))
    assert digest_of_manifest(one) != digest_of_manifest(one | {"held_out": {"documents": 2}})
