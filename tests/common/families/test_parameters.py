"""The canonical tree: what is in it, and where its first values come from."""

import hashlib
import math

import numpy as np
import pytest

from twinscale.common.families.convnet import ConvNet
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.mlp import MLP
from twinscale.common.families.parameters import initial_values, is_decayed, is_trained, parameters


def decoder(**values):
    return parameters(Decoder(family="decoder", layers=3, width=16, heads=4, **values), 257, (32,))


def test_names_come_in_the_order_of_the_forward_pass():
    names = list(decoder(activation="swiglu", tied=False))
    order = ["embedding", "position", "block_0.norm_1", "block_0.attention.query", "block_0.attention.output",
             "block_0.norm_2", "block_0.feedforward.gate", "block_0.feedforward.down", "block_1.norm_1", "norm.",
             "head"]
    places = [next(i for i, name in enumerate(names) if name.startswith(part)) for part in order]
    assert places == sorted(places)


def test_running_statistics_are_not_trained_and_only_kernels_and_tables_decay():
    tree = parameters(ConvNet(family="convnet"), 10, (8, 8, 1)) | decoder()
    still = {name for name in tree if not is_trained(name)}
    assert still == {name for name in tree if name.split(".")[-1] in ("mean", "var")} and still
    assert {name for name in tree if is_decayed(name)} == {name for name in tree if tree[name].deviation}
    assert all(len(tree[name].shape) >= 2 for name in tree if is_decayed(name))


@pytest.mark.parametrize("model,shape", [(MLP(family="mlp", hidden=(300,)), (20, 20, 1)),
                                         (ConvNet(family="convnet", channels=(64,)), (8, 8, 1)),
                                         (Decoder(family="decoder", layers=2, width=128), (64,))])
def test_first_values_have_their_deviation(model, shape):
    """Of n normal draws the deviation is off by less than 5 / sqrt(2 n) of itself (five standard errors)."""
    tree = parameters(model, 10, shape)
    for name, x in initial_values(tree, 1, "float64").items():
        if tree[name].deviation:
            assert abs(x.std() / tree[name].deviation - 1) < 5 / math.sqrt(2 * x.size)
            assert abs(x.mean()) < 5 * tree[name].deviation / math.sqrt(x.size)
        else:
            assert (x == tree[name].constant).all()
    assert tree[next(iter(tree))].deviation


def test_a_first_value_depends_on_seed_and_name_alone():
    tree, other = decoder(), parameters(Decoder(family="decoder", layers=9, width=16, heads=4, tied=False), 257, (32,))
    few, many = initial_values(tree, 3, "float64"), initial_values(other, 3, "float64")
    assert np.array_equal(few["block_1.attention.query.kernel"], many["block_1.attention.query.kernel"])
    drawn = {name: x for name, x in few.items() if tree[name].deviation}
    assert len({x.flat[0] for x in drawn.values()}) == len(drawn)
    again = initial_values(tree, 4, "float64")
    assert not any((x == again[name]).any() for name, x in drawn.items())


def test_lower_precisions_are_roundings_of_the_same_draws():
    tree = decoder()
    wide, narrow = initial_values(tree, 3, "float64"), initial_values(tree, 3, "float32")
    assert all(np.array_equal(x.astype(np.float32), narrow[name]) for name, x in wide.items())


def test_first_values_are_these_for_ever():
    """A change of them breaks every run's reproduction: let it be on purpose."""
    tree = parameters(MLP(family="mlp", hidden=(4,)), 3, (5,))
    values = initial_values(tree, 0, "float32")
    digest = hashlib.sha256(b"".join(values[name].tobytes() for name in sorted(values))).hexdigest()
    assert digest == "221b4bb266aced3fbcc7f6a731c5b7b36e21f87ad30ef43c40dead0a9e3db57d"
