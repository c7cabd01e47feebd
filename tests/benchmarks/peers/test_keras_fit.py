"""Keras' own layers and `fit`: as many weights as ours has, and steps that are timed."""

import pytest

keras_fit = pytest.importorskip("twinscale.benchmarks.peers.keras_fit")


def test_it_has_as_many_weights_as_ours(asked):
    job, count = asked
    assert keras_fit.model_of(job).count_params() == count
    frozen = keras_fit.model_of(job | {"frozen": True})
    tables = (job["vocabulary"] + job["positions"] + job["types"]) * job["width"]
    assert sum(x.numpy().size for x in frozen.trainable_variables) == count - tables


@pytest.mark.slow
def test_steps_take_their_time(asked):
    train = keras_fit.prepared(asked[0])
    train(2)
    assert 0 < train(2) < 10
