"""PyTorch's loop of `torch_loop` with its model compiled by torch.compile, and whether that works here."""

import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch

from twinscale.benchmarks.peers import torch_loop
from twinscale.benchmarks.peers.serve import COMPILE, SEEN, serve


def prepared(job: Mapping[str, Any]) -> Callable[[int], float]:
    """What trains so many steps, and says the seconds; the first steps compile."""
    return torch_loop.prepared(job, torch.compile)


def seen(compiling: bool) -> dict[str, str | None]:
    """{"version": of torch, "device": "cuda" or "cpu", "kind": the device's name, "error": None, or why torch.compile
    does not work there, in a line}; without `compiling` nothing is tried."""
    found = {"version": version("torch"), "device": torch_loop.device_of(), "kind": torch_loop.kind_of()}
    return found | {"error": failure(found["device"]) if compiling else None}


def failure(device: str) -> str | None:
    """Why a small function does not compile on a device, or is another one once compiled; None where it does."""
    def both(x):
        return torch.nn.functional.gelu(x @ x).sum()

    x = torch.eye(64, device=device)
    try:
        compiled = torch.compile(both)(x)
    except Exception as error:  # of whatever compiler lacks what it needs
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    return None if torch.allclose(compiled, both(x), rtol=1e-4) else "a compiled product is another one than eager's"


if __name__ == "__main__":
    if SEEN in sys.argv[1:]:
        print(json.dumps(seen(COMPILE in sys.argv[1:])))
    else:
        serve(prepared, torch_loop.PACKAGES, torch_loop.kind_of())
