"""Momenta of running statistics are measured, of programs in NumPy."""

import numpy as np
import pytest

from twinscale.common.pairs.match import Line, Match
from twinscale.common.pairs.momenta import momenta, momenta_apart
from twinscale.common.pairs.program import Program
from twinscale.common.pairs.tensors import Tensor

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
VALUES = {"bn/mean": np.ones(3, np.float32), "bn/var": np.full(3, 2, np.float32)}


def program(momentum, noise=0.0, breaks=False):
    rng = np.random.default_rng(1)

    def call(tensors, x, training=False, seen=None):
        if breaks and training:
            raise RuntimeError("no key for dropout")
        x = x + noise * rng.normal(size=x.shape)
        new = {"bn/mean": x.mean(0), "bn/var": x.var(0)}
        return {"output": x}, {name: momentum * tensors[name] + (1 - momentum) * new[name] for name in new}

    return Program("numpy", tuple(Tensor(name, (3,), False) for name in VALUES), VALUES, call, lambda *given: ({}, {}))


def test_what_a_step_keeps_is_measured_and_told_apart():
    assert momenta(program(0.9), X, VALUES) == pytest.approx({"bn/mean": 0.9, "bn/var": 0.9}, abs=1e-6)
    match = Match(tuple(Line(name, (name,)) for name in VALUES))
    (name, one, other), _ = momenta_apart(program(0.99), program(0.9), (X, X), match, VALUES)
    assert name == "bn/mean" and (one, other) == pytest.approx((0.99, 0.9), abs=1e-6)


def test_what_does_not_move_breaks_or_is_random_says_nothing():
    for other in (program(1.0), program(0.9, noise=3.0), program(0.9, breaks=True)):
        assert momenta(other, X, VALUES) == {}
