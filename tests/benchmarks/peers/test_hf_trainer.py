"""Hugging Face's Trainer, where `make peers` has made its environment: as many weights as ours has, and steps."""

import pytest

pytest.importorskip("accelerate")
hf_trainer = pytest.importorskip("twinscale.benchmarks.peers.hf_trainer", exc_type=ModuleNotFoundError)


def test_it_has_as_many_weights_as_ours_and_trains(asked):
    job, count = asked
    if job["causal"]:
        pytest.skip("it trains encoders alone")
    assert hf_trainer.model_of(job).num_parameters() == count
    tables = (job["vocabulary"] + job["positions"] + job["types"]) * job["width"]
    assert hf_trainer.model_of(job | {"frozen": True}).num_parameters(only_trainable=True) == count - tables
    train = hf_trainer.prepared(job)
    assert train(1) > 0 and train(3) > 0
