"""Which tensor of a checkpoint is which of a program's: by names that are nearly one, or by a layer's order."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.foreign.names import bare, check_fits, fitted


@pytest.mark.parametrize("path, wanted", [
    ("params/dense/kernel", "dense/kernel"), ("state/params/dense/kernel/value", "dense/kernel"),
    ("model.layers.0.weight", "layers/0/weight"), ("dense/kernel", "dense/kernel"), ("params", "params"),
    ("value", "value"), ("batch_stats/bn/mean", "bn/mean")])
def test_what_a_checkpoint_has_around_a_path_is_left_out(path, wanted):
    assert bare(path) == wanted


def test_collections_of_one_module_are_put_together():
    stored = ["params/bn/scale", "params/bn/bias", "batch_stats/bn/mean", "batch_stats/bn/var",
              "opt_state/0/mu/params/bn/scale", "step"]
    found = fitted(stored, ["bn/scale", "bn/bias", "bn/mean", "bn/var"])
    assert found.names == {"bn/scale": stored[0], "bn/bias": stored[1], "bn/mean": stored[2], "bn/var": stored[3]}
    assert found.absent == () and found.left == ("step",)


def test_numbers_of_a_layer_go_by_the_programs_order_or_by_keras_own():
    stored = [f"norm/{i}" for i in range(4)] + ["out/0", "out/1"]
    wanted = ["norm/moving_variance", "norm/gamma", "norm/beta", "norm/moving_mean", "out/bias", "out/kernel"]
    by_keras = fitted(stored, wanted, ordered=False).names
    assert by_keras["norm/gamma"] == "norm/0" and by_keras["norm/moving_variance"] == "norm/3"
    assert by_keras["out/kernel"] == "out/0"
    assert fitted(stored, wanted).names["norm/moving_variance"] == "norm/0"
    assert fitted(["x/0", "x/1"], ["x/mine", "x/yours"], ordered=False).absent == ("x/mine", "x/yours")
    assert fitted(["x/0", "x/1", "x/2"], ["x/kernel", "x/bias"]).absent == ("x/kernel", "x/bias")


def test_layers_that_keras_has_numbered_on_are_taken_in_their_order():
    """By the names alone dense_1 would be the first of two that are dense and dense_1 elsewhere."""
    stored = [f"{name}/{i}" for name in ("dense_1", "dense_2", "dense_10", "tower_3/conv_4", "out") for i in range(2)]
    wanted = [f"{name}/{leaf}" for name in ("dense", "dense_1", "dense_2", "tower/conv", "out")
              for leaf in ("kernel", "bias")]
    names = fitted(stored, wanted).names
    assert [names[f"{module}/kernel"] for module in ("dense", "dense_1", "dense_2", "tower/conv", "out")] == [
        "dense_1/0", "dense_2/0", "dense_10/0", "tower_3/conv_4/0", "out/0"]
    assert fitted(["dense_1/0"], ["dense/kernel", "dense_1/kernel"]).absent == ("dense/kernel",)
    assert fitted(["dense_1/kernel", "dense_2/kernel"], ["dense/kernel", "dense_1/kernel"]).names == {
        "dense/kernel": "dense_1/kernel", "dense_1/kernel": "dense_2/kernel"}


def test_a_module_that_alone_ends_so_is_it_and_of_two_neither():
    assert fitted(["backbone/dense/kernel"], ["dense/kernel"]).names == {"dense/kernel": "backbone/dense/kernel"}
    assert fitted(["dense/kernel"], ["net/dense/kernel"]).names == {"net/dense/kernel": "dense/kernel"}
    assert fitted(["a/dense/kernel", "b/dense/kernel"], ["dense/kernel"]).absent == ("dense/kernel",)


def test_two_that_may_be_one_are_refused_and_the_nearest_is_offered():
    with pytest.raises(BadInput, match="fc/kernel: may be params/fc/kernel or target/fc/kernel of the checkpoint"):
        fitted(["params/fc/kernel", "target/fc/kernel"], ["fc/kernel"])
    with pytest.raises(BadInput, match=r'it.npz: fc1/kernel is not in it \(2 are not\); did you mean "fc_1/kernel"'):
        check_fits(fitted(["fc_1/kernel", "fc_1/bias"], ["fc1/kernel", "fc1/bias"]), "it.npz")
    with pytest.raises(BadInput, match="fc1/kernel is not in it; what nothing asks for is zzz, params/q/0$"):
        check_fits(fitted(["zzz", "params/q/0"], ["fc1/kernel"]), "it.npz")
