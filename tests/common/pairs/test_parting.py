"""Where two programs part, of programs that say themselves what their modules see."""

import numpy as np

from twinscale.common.pairs.match import Line, Match
from twinscale.common.pairs.parting import (
    Beside,
    Known,
    all_partings,
    backward_parting,
    last_off,
    look,
    look_fed,
    parting,
)
from twinscale.common.pairs.program import Fed, Program, Seen
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


# ---- what lies behind the first parting

def chain(*layers, ends=lambda x: x):
    """A program of modules one behind another, (name, function before it, its own function), that may be fed."""
    def call(tensors, x, training=False, seen=None):
        x = np.asarray(x, np.float64)
        for name, before, own in layers:
            given = before(x)
            values = (seen.next(name) if isinstance(seen, Fed) else None) or Seen(name, (), ())
            made = own(*(values.inputs or (given,)))
            seen += [Seen(name, (given,), (made,))]
            (x,) = values.outputs or (made,)
        return {"output": ends(x)}, {}

    return Program("numpy", tuple(Tensor(f"{name}/kernel", (4, 4)) for name, _, _ in layers), {}, call,
                   lambda *given: ({}, {}), "float64")


def plain(x):
    return x


def fed(a, b, lines=None):
    """(The Parting of two programs, with what b does by itself behind it; what b was fed with.)"""
    match = Match(tuple(Line(f"{there}/kernel", (f"{name}/kernel",)) for name, there in lines or [
        (tensor.module, tensor.module) for tensor in a.tensors]))
    values = {tensor.path: np.ones((4, 4)) for tensor in a.tensors}
    known, x = Known(match, a.tensors, values, X, "float64"), X.astype(np.float64)
    sights = look(a, values, x), look(b, values, x)
    given = [()]

    def again(values_of_a):
        given.append(values_of_a)
        return look_fed(b, values, x, values_of_a)

    return all_partings(sights, known, again), given[-1]


def test_each_module_behind_the_first_parting_is_judged_by_itself_and_all_that_part_are_listed():
    def double(x):
        return 2 * x

    one = chain(("fc", plain, double), ("norm", np.tanh, double), ("mid", plain, double), ("out", plain, double),
                ends=np.tanh)
    other = chain(("fc", plain, double), ("norm", lambda x: np.maximum(x, 0), double), ("mid", plain, double),
                  ("out", plain, lambda x: 2.5 * x), ends=lambda x: x)
    found, _ = fed(one, other)
    assert found.place == "between fc and norm, whose inputs differ" and found.cause == "a applies tanh, b ReLU."
    assert found.others == (
        ("at out, whose inputs agree and whose outputs do not", "What b passes on is 1.25 times what a does."),
        ("after out, the last module that holds tensors", "a applies tanh, b no activation."))
    norm, mid, out = found.modules[1:]
    assert norm.parts and not out.parts and mid == Beside("mid", "mid", 0.0, 0.0)
    assert out.inputs == 0.0 and abs(out.outputs - 0.2) < 0.06


def test_what_one_function_spoils_alone_is_no_parting_of_those_behind_it():
    one, other = (chain(("fc", plain, f), ("norm", plain, np.tanh), ("out", plain, np.sinh))
                  for f in (plain, np.cbrt))
    found, _ = fed(one, other)
    assert found.place.startswith("at fc") and found.others == ()
    assert all((row.inputs, row.outputs) == (0.0, 0.0) for row in found.modules[1:])


def test_values_are_carried_in_the_order_of_the_others_axes():
    """Axes are turned on one side, behind a parting that leaves them in their order."""
    one = chain(("fc", plain, lambda x: 2 * x), ("mid", plain, lambda x: 3 * x), ("out", plain, plain))
    other = chain(("fc", plain, lambda x: 2.5 * x), ("mid", np.transpose, lambda x: 3 * x),
                  ("out", np.transpose, plain))
    found, given = fed(one, other)
    assert given[1].inputs[0].shape == (4, 5) and np.array_equal(given[1].inputs[0], 2.0 * X.T.astype(np.float64))
    assert found.place.startswith("at fc") and found.others == ()


def test_a_module_whose_inputs_cannot_be_carried_is_not_judged():
    one = chain(("fc", plain, lambda x: 2 * x), ("mid", plain, lambda x: x), ("out", plain, plain))
    other = chain(("fc", plain, lambda x: 3 * x), ("mid", lambda x: np.concatenate([x, x], 1), lambda x: 5 * x[:, :4]),
                  ("out", plain, plain))
    found, given = fed(one, other)
    assert given[1].inputs == () and found.modules[1] == Beside("mid", "mid") and found.others == ()


def test_an_activation_within_a_layer_is_not_applied_twice_behind_a_parting():
    """Which only what it makes of equal inputs can tell: behind the parting the free runs see it nowhere."""
    one = chain(("norm", plain, lambda x: 1.3 * x + 0.2), ("fc", plain, np.tanh), ("out", plain, plain))
    other = chain(("norm", plain, plain), ("fc", plain, plain), ("out", np.tanh, plain))
    found, given = fed(one, other)
    assert found.place.startswith("at norm") and found.others == () and given[1].outputs == ()
    wrong = chain(("norm", plain, plain), ("fc", plain, plain), ("out", lambda x: np.maximum(x, 0), plain))
    assert fed(one, wrong)[0].others == (("between fc and out, whose inputs differ", "a applies tanh, b ReLU."),)


def test_programs_that_agree_are_not_run_once_more():
    one = chain(("fc", plain, plain), ("out", plain, plain))
    found, given = fed(one, one)
    assert (found.place, found.others, given) == ("", (), ())
