"""The places of a program without modules, by the order of its operations."""

from twinscale.common.pairs.dataflow import Step, places

X, W, B, G = 0, 1, 2, 3  # the data, a kernel, a bias and a scale
FLAT = {W: "w", B: "b"}


def dense(x, made, kernel=W, bias=B):
    return [Step("dot_general", (x, kernel), (made,)), Step("broadcast_in_dim", (bias,), (made + 1,)),
            Step("add", (made, made + 1), (made + 2,))]


def test_a_product_and_its_bias_are_one_place_of_the_module_that_holds_both():
    (one,) = places(dense(X, 10), {W: "hidden/w", B: "hidden/b"}, [X], ())
    assert (one.module, one.tensors, one.input, one.output, one.steps) == ("hidden", ("hidden/w", "hidden/b"), X, 12,
                                                                           (0, 2))


def test_tensors_of_one_module_at_several_places_go_by_their_own_names():
    steps = [*dense(X, 10), Step("tanh", (12,), (13,)), *dense(13, 20, 4, 5)]
    first, second = places(steps, {**FLAT, 4: "w2", 5: "b2"}, [X], ())
    assert (first.module, second.module) == ("w", "w2") and second.input == 13 and second.output == 22


def test_a_sum_with_what_another_way_brings_is_no_bias_of_it():
    """x @ w + x, and then a tensor of the same module: what it meets is not what the product makes."""
    steps = [Step("dot_general", (X, W), (10,)), Step("add", (10, X), (11,)), Step("add", (11, B), (12,))]
    assert [(one.tensors, one.output) for one in places(steps, FLAT, [X], ())] == [(("w",), 10)]


def test_a_table_of_ids_is_given_no_floats_and_has_no_bias():
    steps = [Step("gather", (W, X), (10,)), Step("add", (10, B), (11,))]
    (one,) = places(steps, FLAT, [X], [X])
    assert (one.input, one.output, one.tensors) == (None, 10, ("w",))


def test_the_input_of_a_norm_is_what_its_mean_is_of_and_not_what_is_before_that():
    norm = [Step("add", (X, 8), (9,)), Step("reduce_sum", (9,), (10,)), Step("sub", (9, 10), (11,)),
            Step("mul", (11, 11), (12,)), Step("reduce_sum", (12,), (13,)), Step("rsqrt", (13,), (14,)),
            Step("mul", (14, G), (15,)), Step("mul", (11, 15), (16,)), Step("add", (16, B), (17,))]
    (one,) = places(norm, {G: "n/scale", B: "n/bias"}, [X, 8], ())
    assert (one.module, one.input, one.output) == ("n", 9, 17) and one.steps == tuple(range(1, 9))


def test_a_scale_of_what_is_no_norm_is_given_what_it_scales():
    steps = [Step("dot_general", (X, W), (10,)), Step("max", (10, None), (11,)), Step("mul", (11, G), (12,))]
    places_found = places(steps, {W: "d/w", G: "s/gamma"}, [X], ())
    assert [(one.module, one.input, one.output) for one in places_found] == [("d", X, 10), ("s", 11, 12)]


def test_what_mixes_the_tensors_of_two_modules_is_no_place_of_either():
    steps = [Step("mul", (W, G), (10,)), Step("dot_general", (X, 10), (11,))]
    assert places(steps, {W: "one/w", G: "other/g"}, [X], ()) == []
