"""Single operations in PyTorch as it has them, on the CPU, without torch.compile."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from twinscale.benchmarks.peers.operations import (
    CALL,
    DECAY,
    EPSILON,
    GRADIENT,
    MEAN,
    NORM,
    RATE,
    SQUARE,
    SQUARED,
    timed,
)
from twinscale.benchmarks.peers.serve import serve

PACKAGES = ("torch",)

FUNCTIONS: Mapping[str, Callable[..., torch.Tensor]] = {
    "layer norm": lambda x, scale, bias: functional.layer_norm(x, x.shape[-1:], scale, bias, NORM),
    "transposing copy": lambda x: x.transpose(1, 2).contiguous(), "softmax": lambda x: functional.softmax(x, -1),
    "scores": lambda q, k: q @ k.transpose(2, 3), "product": torch.matmul, "gelu": functional.gelu,
    SQUARED: lambda x: x @ x, CALL: lambda x: x + 1}


def made(name: str, given: list[np.ndarray]) -> Callable[[], Any]:
    """What computes an operation once; returns its results. An update is AdamW's own, and goes on from the last."""
    taken = [torch.from_numpy(x) for x in given]
    if name == "update":
        return updating(taken)
    if not name.endswith(GRADIENT):
        return lambda: FUNCTIONS[name](*taken)
    *read, arriving = taken
    read = [x.requires_grad_() for x in read]

    def both():
        y = FUNCTIONS[name.removesuffix(GRADIENT)](*read)
        return y.detach(), *torch.autograd.grad(y, read, arriving)

    return both


def updating(gradients: list[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """What takes an update and returns the weights."""
    weights = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    optimizer = torch.optim.AdamW(weights, RATE, (MEAN, SQUARE), EPSILON, DECAY)
    for w, g in zip(weights, gradients, strict=True):
        w.grad = g

    def once():
        optimizer.step()
        return [w.detach() for w in weights]

    return once


if __name__ == "__main__":
    serve(lambda job: timed(job, made), PACKAGES)
