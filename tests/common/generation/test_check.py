"""Samplers held to a trainer that is a matrix."""

import numpy as np
import pytest

from twinscale.common.generation.check import apart, near_ties, rounding, trained
from twinscale.common.generation.loop import Row
from twinscale.common.generation.sample import Choice, log_softmax

TENSORS = {"head.kernel": np.random.default_rng(0).normal(size=(8, 8))}


def forward(tensors, ids):
    return np.eye(8)[ids] @ tensors["head.kernel"]


def row_of(off=0.0, margin=1.0):
    logits = log_softmax(TENSORS["head.kernel"])
    return Row(np.array([1, 2]), [Choice(5, logits[2, 5] + off, margin), Choice(3, logits[5, 3], 1.0)], "tokens")


def test_the_trainers_log_probabilities_are_those_of_the_tokens():
    trainer = trained(forward, TENSORS, [row_of()], 6, "float64")
    assert apart(trainer, [row_of()]) < 1e-15 < trainer.allowed < 1e-12
    assert apart(trainer, [row_of(1e-9)]) == pytest.approx(1e-9) and trainer.allowed < 1e-9


def test_narrower_precisions_allow_more_and_near_ties_are_counted():
    wide, single, half = (trained(forward, TENSORS, [row_of()], 6, kind) for kind in ("float64", "float32", "bfloat16"))
    assert 1e6 * wide.allowed < single.allowed < half.allowed / 1e3
    assert near_ties(wide, [row_of(margin=wide.moves), row_of()]) == 1
    assert rounding(TENSORS, 1000, "float64") > rounding(TENSORS, 10, "float64")
