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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_train_beside_float32_weights(asked, precision):
    models, dtypes = [], []

    def kept(model):
        models.append(model)
        model.head.register_forward_hook(lambda _, given, logits: dtypes.append(str(logits.dtype)))
        return model

    assert torch_loop.prepared(asked[0] | {"precision": precision}, kept)(2) > 0
    assert dtypes == [f"torch.{precision}"] * 2 and torch_loop.kind_of()
    assert {str(x.dtype) for x in models[0].parameters()} == {"torch.float32"}
