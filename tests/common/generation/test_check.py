"""What the trainer is held to: a small model in NumPy, whose rounding is known."""

import numpy as np
import pytest

from twinscale.common.generation.check import apart, each, near_ties, rounding, trained, wanted
from twinscale.common.generation.loop import Row
from twinscale.common.generation.sample import Choice, log_softmax

LENGTH, CLASSES = 8, 5
IDS = [[1, 2, 0], [4, 3]]


def tensors(dtype=np.float64):
    return {"head.kernel": np.random.default_rng(2).normal(size=(CLASSES, CLASSES)).astype(dtype)}


def forward(values, ids):
    """Logits (B, T, V) of what all tokens so far have in common."""
    x = np.cumsum(np.eye(CLASSES)[ids], 1).astype(values["head.kernel"].dtype)
    return x @ values["head.kernel"]


def rows_of(values, off=0.0, margin=1.0):
    """Rows as a sampler of these values has them, whose log-probabilities are off by some nats."""
    made = []
    for prompt, ids in (([1, 1], IDS[0]), ([2], IDS[1])):
        row = Row(np.array(prompt, np.int32))
        for token in ids:
            logits = forward(values, np.array([[*prompt, *row.ids]]))[0, -1]
            row.choices.append(Choice(token, float(log_softmax(np.float64(logits))[token]) + off, margin))
        made.append(row)
    return made


def test_a_tokens_logits_are_those_of_the_position_before_it():
    values = tensors()
    row = rows_of(values)[0]
    logits = wanted(forward, values, row, LENGTH)
    assert logits.shape == (3, CLASSES) and (logits[0] == forward(values, np.array([[1, 1]]))[0, -1]).all()
    assert each(log_softmax(logits), row) == pytest.approx([choice.logprob for choice in row.choices])


@pytest.mark.parametrize("precision", ["float64", "float32", "bfloat16"])
def test_a_sampler_of_the_same_weights_is_within_the_bound_and_one_of_others_is_not(precision):
    values = tensors(np.float64 if precision == "float64" else np.float32)
    trainer = trained(forward, values, rows_of(values), LENGTH, precision)
    assert apart(trainer, rows_of(values)) <= trainer.allowed
    assert 0 < trainer.allowed < {"float64": 1e-13, "float32": 1e-4, "bfloat16": 1}[precision]
    assert apart(trainer, rows_of(values, 3 * trainer.allowed)) > trainer.allowed
    others = {"head.kernel": values["head.kernel"][::-1]}
    assert apart(trainer, rows_of(others)) > trainer.allowed


def test_the_bound_is_that_of_the_longest_sum_or_of_a_twin_that_rounding_moves_further():
    values = tensors()
    quiet = trained(forward, values, rows_of(values), LENGTH, "float64")
    assert quiet.bound_from == "rounding of the longest sum in float64" and quiet.allowed == 2 * quiet.moves

    def loud_forward(given, ids):
        moved = np.abs(given["head.kernel"] - values["head.kernel"]).sum()
        return forward(given, ids) + 1e4 * moved * np.eye(CLASSES)[ids]

    loud = trained(loud_forward, values, rows_of(values), LENGTH, "float64")
    assert loud.bound_from == "4 x the float64 twin's noise" and loud.allowed > 2 * quiet.allowed
    assert rounding({"a.kernel": np.zeros((400, 2)), "b.scale": np.zeros(9000)}, 16, "float64") == 70 * 2.0**-52
    assert rounding(values, 400, "float64") == 70 * 2.0**-52


def test_near_ties_are_tokens_whose_margin_is_what_rounding_may_make():
    values = tensors()
    trainer = trained(forward, values, rows_of(values), LENGTH, "float64")
    assert [near_ties(trainer, rows_of(values, margin=size * trainer.moves)) for size in (0, 1, 1.01)] == [5, 5, 0]
