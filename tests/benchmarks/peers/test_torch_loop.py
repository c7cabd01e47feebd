"""PyTorch's loop, where `make peers` has made its environment: as many weights as ours has, and steps that train."""

import pytest

torch_loop = pytest.importorskip("twinscale.benchmarks.peers.torch_loop", exc_type=ModuleNotFoundError)


def test_it_has_as_many_weights_as_ours(asked):
    job, count = asked
    model = torch_loop.Transformer(job)
    assert sum(x.numel() for x in model.parameters()) == count
    frozen = torch_loop.Transformer(job | {"frozen": True})
    tables = (job["vocabulary"] + job["positions"] + job["types"]) * job["width"]
    assert sum(x.numel() for x in frozen.parameters() if x.requires_grad) == count - tables


def test_steps_train(asked):
    assert torch_loop.prepared(asked[0])(2) > 0
