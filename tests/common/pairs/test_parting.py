"""Where two programs part, of programs that say themselves what their modules see."""

import numpy as np

from twinscale.common.pairs.match import Line, Match
from twinscale.common.pairs.parting import Beside, Known, backward_parting, last_off, look, parting
from twinscale.common.pairs.program import Program, Seen
from twinscale.common.pairs.tensors import Tensor

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


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
    values = {tensor.path: np.ones((4, 4), np.float32) for tensor in a.tensors}
    return parting((look(a, values, X), look(b, values, X)), Known(match, a.tensors, values, X, "float32"))


def test_what_follows_the_last_module_is_measured():
    found = parted(watched([("head", X, 2 * X)], 2 * X), watched([("head", X, 2 * X)], np.tanh(2 * X)))
    assert found.place == "after head, the last module that holds tensors"
    assert found.cause == "a applies no activation, b tanh."


def test_a_cell_that_is_called_at_each_step_is_one_call_of_a_scan():
    steps = np.stack([X, 2 * X, 3 * X])
    one = [("cell", x, 2 * x) for x in (steps[0], *steps)]  # Keras asks once before
    found = parted(watched(one), watched([("scan", steps.swapaxes(0, 1), steps.swapaxes(0, 1))]),
                                [("cell", "scan")])
    assert found.place.startswith("at cell, whose inputs agree") and found.coverage.startswith("4 of 4 calls")


def test_a_module_that_holds_others_is_no_partner_of_one_that_does_not():
    one = watched([("table", X, X), ("dense", X, 2 * X)])
    other = watched([("", 5 * X, 7 * X), ("fc", X, 3 * X)])
    found = parted(one, other, [("table", ""), ("dense", "fc")])
    assert (found.place, found.cause) == ("at dense, whose inputs agree and whose outputs do not",
                            "What b passes on is 1.5 times what a does.") and found.coverage.startswith("1 of 2")


def test_a_norm_that_stands_elsewhere_is_said():
    def normed(x):
        return np.sign(x) * np.sqrt(np.abs(x))

    before = [("norm", X, normed(X)), ("fc", normed(X), 3 * normed(X)), ("out", X + 3 * normed(X), X)]
    after = [("fc", X, 3 * X), ("norm", 4 * X**3, normed(4 * X**3)), ("out", normed(4 * X**3), X)]
    found = parted(watched(before), watched(after))
    assert found.cause == "a calls norm right before fc, b does not."
    found = parted(watched(after), watched(before))
    assert found.cause == "b calls norm right before fc, a does not."


def test_modules_stand_side_by_side_up_to_the_first_parting():
    one, other = ([("fc", X, 2 * X), ("norm", y, y), ("out", y, y)] for y in (2 * X, 3 * X))
    found = parted(watched(one, 2 * X), watched(other, 3 * X))
    assert found.modules[0] == Beside("fc", "fc", 0.0, 0.0) and found.modules[2] == Beside("out", "out")
    assert found.modules[1].inputs > found.bound > 0 and found.place == "between fc and norm, whose inputs differ"
    found = parted(watched(one, 2 * X), watched(one, 2 * X))
    assert (found.place, found.cause) == ("", "") and all(row.outputs == 0.0 for row in found.modules)


def test_what_is_no_number_on_one_side_alone_parts_there_and_a_mask_on_both_hides_nothing():
    broken = np.where(X > 0, X, np.nan)
    found = parted(watched([("norm", X, X), ("out", X, X)]), watched([("norm", X, broken), ("out", broken, X)]))
    assert found.place == "at norm, whose inputs agree and whose outputs do not" and np.isfinite(found.bound)
    masked = np.where(X > 0, X, -np.inf)
    found = parted(watched([("mask", X, masked), ("out", masked, X)], X),
                   watched([("mask", X, masked), ("out", masked, 2 * X)], X))
    assert found.place.startswith("at out,") and np.isfinite(found.bound)
    found = parted(watched([("mask", X, masked)]), watched([("mask", X, -masked)]))
    assert found.place.startswith("at mask,")


def test_gradients_that_part_where_nothing_else_does_are_placed_in_the_order_of_the_backward_pass():
    place = backward_parting(["a", "b", "b", "c"], {"a", "b"})
    assert place.startswith("backward, at b or between it and c")
    assert backward_parting(["a", "b"], {"b"}).startswith("backward, at b or between it and the outputs")
    assert backward_parting(["a"], set()) == ""
    assert last_off(["", "b"], {""}) == "" and last_off(["a"], {"b"}) is None  # a program may hold tensors itself
    assert backward_parting(["", "b"], {""}).startswith("backward, at  or between it and b")


def test_features_in_the_order_of_the_kernels_rows_are_one():
    """Behind an image that one side flattens with its channels last, the other with them first."""
    order = np.array([2, 0, 3, 1])
    one, other = watched([("fc", X, 2 * X)], 2 * X), watched([("fc", X[:, order], 2 * X)], 2 * X)
    lines = (Line("fc/kernel", ("fc/kernel",), (("reshape", 2, 2, 4), ("transpose", 1, 0, 2), ("reshape", 4, 4))),)
    values = {"fc/kernel": np.ones((4, 4), np.float32)}
    known = Known(Match(lines), one.tensors, values, X, "float32")
    swapped = watched([("fc", X.reshape(5, 2, 2).swapaxes(1, 2).reshape(5, 4), 2 * X)], 2 * X)
    assert parting((look(one, values, X), look(swapped, values, X)), known).place == ""
    assert parting((look(one, values, X), look(other, values, X)), known).place.startswith("between the inputs and fc")


def test_an_activation_within_a_layer_is_no_call_before_the_next():
    """One side has the activation within its layer, the other behind it; what follows has another factor."""
    y = np.maximum(2 * X, 0)
    found = parted(watched([("fc", X, y), ("out", y, y)]), watched([("fc", X, 2 * X), ("out", 3 * y, y)]))
    assert found.place == "between fc and out, whose inputs differ" and "right before" not in found.cause
    assert found.modules[0].outputs is None and found.modules[1].parts
