"""What a model returns, by name, and a program less some of its tensors."""

from collections import namedtuple

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.pairs.program import Program, chosen, in_training, is_plain, named_outputs, without
from twinscale.common.pairs.tensors import Tensor

X, Y = np.zeros(2), np.ones(3)


class Output(dict):
    """As the transformers library's."""

    def to_tuple(self):
        return tuple(self.values())


@pytest.mark.parametrize("made, names", [
    (X, ["output"]), ((X, Y), ["0", "1"]), ([X], ["0"]), ({"a": X, "b": Y}, ["a", "b"]),
    (Output(last=X, cache=None), ["last"]), (namedtuple("Two", "one other")(X, Y), ["one", "other"])])
def test_outputs_have_their_names_or_their_numbers(made, names):
    assert list(named_outputs(made)) == names


def test_one_output_is_chosen_and_a_name_that_none_has_is_said():
    assert list(chosen({"a": X, "b": Y}, None, "keras")) == ["a", "b"]
    assert chosen({"a": X, "b": Y}, "b", "keras")["output"] is Y
    with pytest.raises(BadInput, match="keras has no output logit: it has a, logits.*mean"):
        chosen({"a": X, "logits": Y}, "logit", "keras")


def test_a_program_is_asked_as_in_training():
    def call(tensors, inputs, training=False, seen=None):
        return {"output": training}, {"seen": seen}

    program = Program("kind", (), {}, call, lambda tensors, inputs, signs, training=False: (signs, training), "float64")
    asked = in_training(program)
    assert asked.precision == "float64" and not program.call({}, X)[0]["output"]
    assert asked.call({}, X, seen=[1]) == ({"output": True}, {"seen": [1]})
    assert asked.gradients({}, X, 3) == (3, True) and program.gradients({}, X, 3) == (3, False)


@pytest.mark.parametrize("value, plain", [
    ([0.0, 1.0, -np.inf], True), (0.5, True), (-1e9, True), (0.1, False), (np.float32(2**-0.5), False), ([True], True)])
def test_numbers_that_no_format_rounds_are_plain(value, plain):
    assert is_plain(value) == plain


def test_a_program_less_a_tensor_keeps_its_first_value():
    tensors, start = (Tensor("w", (2,)), Tensor("idle", (3,)), Tensor("mean", (3,), False)), {
        "w": X, "idle": Y, "mean": 2 * Y}
    program = Program("of NumPy", tensors, start, lambda tensors, inputs, training=False, seen=None: (
        dict(tensors), {"mean": inputs}), lambda tensors, inputs, signs: (dict(tensors), signs))
    less = without(program, ["idle", "mean"])
    assert [tensor.path for tensor in less.tensors] == list(less.start) == ["w"]
    outputs, statistics = less.call({"w": X + 5}, Y, training=True)
    assert outputs["idle"] is Y and (outputs["w"] == 5).all() and statistics == {}
    assert less.gradients({"w": X}, Y, {})[0].keys() == {"w"} and without(program, []) is program
