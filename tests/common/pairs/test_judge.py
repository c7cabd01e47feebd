"""The verdict on two programs, of programs in NumPy: bounds are the programs' own, and what differs is named."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput, Disagreement
from twinscale.common.pairs.judge import _dithered, carried_back, generic, judged, outputs_difference, parting
from twinscale.common.pairs.match import Line, Match, carried
from twinscale.common.pairs.program import Program, Seen
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


def watched(calls, made=X):
    """A program without gradients that is seen to call modules, {name: (inputs, outputs)}, in this order."""
    def call(tensors, x, training=False, seen=None):
        if seen is not None:
            seen += [Seen(name, (np.asarray(one),), (np.asarray(other),)) for name, one, other in calls]
        return {"output": np.asarray(made)}, {}

    return Program("numpy", tuple(Tensor(f"{name}/kernel", (4, 4)) for name in dict.fromkeys(n for n, _, _ in calls)),
                   {}, call, lambda *given: ({}, {}))


def parted(a, b, lines=None):
    match = Match(tuple(Line(f"{there}/kernel".lstrip("/"), (f"{name}/kernel",)) for name, there in lines or [
        (tensor.module, tensor.module) for tensor in a.tensors]))
    return parting(a, b, (X, X), match, {tensor.path: np.ones((4, 4), np.float32) for tensor in a.tensors})


def test_what_follows_the_last_module_is_measured():
    place, why, _ = parted(watched([("head", X, 2 * X)], 2 * X), watched([("head", X, 2 * X)], np.tanh(2 * X)))
    assert place == "after head, the last module that holds tensors" and why == "a applies no activation, b tanh."


def test_a_cell_that_is_called_at_each_step_is_one_call_of_a_scan():
    steps = np.stack([X, 2 * X, 3 * X])
    one = [("cell", x, 2 * x) for x in (steps[0], *steps)]  # Keras asks once before
    place, _, coverage = parted(watched(one), watched([("scan", steps.swapaxes(0, 1), steps.swapaxes(0, 1))]),
                                [("cell", "scan")])
    assert place.startswith("at cell, whose inputs agree") and coverage.startswith("4 of 4 calls")


def test_a_module_that_holds_others_is_no_partner_of_one_that_does_not():
    one = watched([("table", X, X), ("dense", X, 2 * X)])
    other = watched([("", 5 * X, 7 * X), ("fc", X, 3 * X)])
    place, why, coverage = parted(one, other, [("table", ""), ("dense", "fc")])
    assert (place, why) == ("at dense, whose inputs agree and whose outputs do not",
                            "What b passes on is 1.5 times what a does.") and coverage.startswith("1 of 2")


def test_a_norm_that_stands_elsewhere_is_said():
    def normed(x):
        return np.sign(x) * np.sqrt(np.abs(x))

    before = [("norm", X, normed(X)), ("fc", normed(X), 3 * normed(X)), ("out", X + 3 * normed(X), X)]
    after = [("fc", X, 3 * X), ("norm", 4 * X**3, normed(4 * X**3)), ("out", normed(4 * X**3), X)]
    _, why, _ = parted(watched(before), watched(after))
    assert why == "a calls norm right before fc, b does not."
    _, why, _ = parted(watched(after), watched(before))
    assert why == "b calls norm right before fc, a does not."


def test_a_mask_of_zeros_and_ones_is_as_exact_as_it_is_given():
    """With a factor of 1e9 a rounding of it would be as much as all logits, and hide whatever is wrong."""
    assert (_dithered({"mask": np.ones(9, np.float32)}, 1e-3)["mask"] == 1).all()
    assert (_dithered((X,), 1e-3)[0] != X).any() and (_dithered(X, 0.0) == X).all()


def test_a_bound_is_no_more_than_what_still_says_something():
    """A program whose twin is far from it would agree with any other."""
    def call(tensors, x, training=False, seen=None):
        return {"output": np.sin(1e9 * x).astype(np.float32)}, {}

    one = program(False)
    one = Program("numpy", one.tensors, one.start, call, lambda *given: (
        {name: np.zeros(shape) for name, shape in SHAPES.items()}, call(*given[:2])[0]))
    assert all(row.bound <= 1e-2 for row in judged(one, one, (X, X), Match(tuple(
        Line(name, (name,)) for name in SHAPES))).rows)
