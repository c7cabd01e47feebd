"""The verdict on two programs, of programs in NumPy: bounds are the programs' own, and what differs is named."""

from dataclasses import replace

import numpy as np
import pytest

from twinscale.common.errors import BadInput, Disagreement
from twinscale.common.pairs.judge import carried_back, generic, judged, outputs_difference
from twinscale.common.pairs.match import Line, Match, carried
from twinscale.common.pairs.program import Program, Seen, axes_of_one
from twinscale.common.pairs.tensors import Tensor

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
SHAPES = {"one/kernel": (4, 4), "one/bias": (4,), "two/kernel": (4, 4), "two/bias": (4,)}
MATCH = Match(tuple(Line(name, (name,), (("transpose", 1, 0),) if name.endswith("kernel") else ()) for name in SHAPES))


def program(turned, scale=1.0, names=("output",)):
    """Two linear layers in float32, whose gradients are written out."""
    def parts(tensors, x):
        kernels = [tensors[f"{name}/kernel"].T if turned else tensors[f"{name}/kernel"] for name in ("one", "two")]
        hidden = x @ kernels[0] + tensors["one/bias"]
        return kernels, hidden, np.float32(scale) * (hidden @ kernels[1]) + tensors["two/bias"]

    def call(tensors, x, training=False, seen=None):
        _, hidden, made = parts(tensors, x)
        if seen is not None:
            seen += [Seen("one", (x,), (hidden,)), Seen("two", (hidden,), (made,))]
        return dict.fromkeys(names, made), {}

    def gradients(tensors, x, signs):
        kernels, hidden, made = parts(tensors, x)
        sign = sum(signs.values())
        back = np.float32(scale) * sign @ kernels[1].T
        found = {"one/kernel": x.T @ back, "one/bias": back.sum(0), "two/kernel": scale * hidden.T @ sign,
                 "two/bias": sign.sum(0)}
        return {name: g.T if turned and g.ndim == 2 else g for name, g in found.items()}, dict.fromkeys(names, made)

    tensors = tuple(Tensor(name, shape) for name, shape in SHAPES.items())
    return Program("numpy", tensors, {name: np.zeros(shape) for name, shape in SHAPES.items()}, call, gradients)


def test_one_function_is_one_and_every_gradient_is_looked_at():
    verdict = judged(program(False), program(True), (X, X), MATCH)
    assert verdict and {row.what for row in verdict.rows} == {"output output"} | {f"gradient of {n}" for n in SHAPES}
    assert all(0 < row.bound < 1e-4 for row in verdict.rows) and "One function" in verdict.sentence
    assert verdict.exit_code == 0


def test_a_difference_of_ten_roundings_of_a_factor_is_seen_and_placed():
    verdict = judged(program(False), program(True, scale=1 + 3e-5), (X, X), MATCH)
    assert not verdict and verdict.place.startswith("at two, whose inputs agree")
    assert verdict.coverage == "2 of 2 calls of modules that hold tensors have their partner"
    with pytest.raises(Disagreement, match="Not one function: .* They first part at two") as caught:
        verdict.raise_if_not()
    assert caught.value.exit_code == 1 and caught.value.verdict is verdict and "NO" in str(verdict)


def test_weights_are_nowhere_zero_one_or_equal_and_seeds_tell_them_apart():
    values = generic(program(False), 0)
    assert all(x.dtype == np.float32 and len(np.unique(x)) == x.size and (x != 0).all() for x in values.values())
    assert any((generic(program(False), 1)[name] != x).any() for name, x in values.items())


def test_gradients_are_carried_back_by_the_adjoint():
    """<carried(x), y> = <x, carried_back(y)> for any x and y, also of a table in two places, padded in one."""
    rng = np.random.default_rng(1)
    a = [Tensor("table", (3, 2)), Tensor("kernel", (2, 4))]
    b = [Tensor("wte", (5, 2)), Tensor("head", (2, 3)), Tensor("w", (4, 2))]
    match = Match((Line("wte", ("table",), (("pad", 0, 2),)), Line("head", ("table",), (("transpose", 1, 0),)),
                   Line("w", ("kernel",), (("transpose", 1, 0),))))
    x, y = ({t.path: rng.normal(size=t.shape) for t in side} for side in (a, b))
    forth, back = carried(match, x), carried_back(match, a, b, y)
    one, other = (sum((u[name] * v[name]).sum() for name in u) for u, v in ((forth, y), (back, x)))
    assert abs(one - other) < 1e-12 * abs(one)


def test_outputs_of_other_names_or_shapes_are_said():
    judge = outputs_difference(program(False), program(True), (X, X))
    assert judge(MATCH) < 1e-6
    with pytest.raises(BadInput, match=r"outputs: one side makes output, the other a, b: say .*outputs=\(NAME, NAME\)"):
        judged(program(False), program(True, names=("a", "b")), (X, X), MATCH)
    with pytest.raises(BadInput, match=r"outputs: output is \(5, 4\) on one side and \(2, 4\) on the other"):
        judged(program(False), program(True), (X, X[:2]), MATCH)


def test_a_bound_is_no_more_than_what_still_says_something():
    """A program whose twin is far from it would agree with any other."""
    def call(tensors, x, training=False, seen=None):
        return {"output": np.sin(1e9 * x).astype(np.float32)}, {}

    one = program(False)
    one = Program("numpy", one.tensors, one.start, call, lambda *given: (
        {name: np.zeros(shape) for name, shape in SHAPES.items()}, call(*given[:2])[0]))
    assert all(row.bound <= 1e-2 for row in judged(one, one, (X, X), Match(tuple(
        Line(name, (name,)) for name in SHAPES))).rows)


def test_a_last_axis_of_one_on_one_side_alone_is_no_difference_and_is_said():
    plain, port = program(False), program(True)

    def longer(t, x, *given, **named):
        made, moved = port.call(t, x, *given, **named)
        return {name: y[..., None] for name, y in made.items()}, moved

    def gradients(t, x, signs):
        found, made = port.gradients(t, x, {name: y[..., 0] for name, y in signs.items()})
        return found, {name: y[..., None] for name, y in made.items()}

    other = replace(port, call=longer, gradients=gradients)
    assert judged(plain, other, (X, X), MATCH) and judged(other, plain, (X, X), MATCH).rows
    assert outputs_difference(plain, other, (X, X))(MATCH) < 1e-6
    wrong = replace(other, call=lambda *given, **named: longer(*given[:1], given[1] * 1.01, *given[2:], **named))
    assert outputs_difference(plain, wrong, (X, X))(MATCH) > 1e-3  # and rows are not held against each other's
    (said,) = axes_of_one({"output": X}, {"output": X[..., None]})
    assert "(5, 4) on one side and (5, 4, 1) on the other" in said and not axes_of_one({"a": X}, {"a": X})
