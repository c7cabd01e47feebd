"""Checks without a framework: what doctor says of a machine, and steps that do what a test says."""

import pytest

from twinscale.benchmarks.device_check.desk import Desk, recipes_of
from twinscale.benchmarks.device_check.result import Ended

CPUS = {"tensorflow": {"devices": [{"name": "/physical_device:CPU:0", "kind": "CPU"}]},
        "jax": {"devices": [{"name": "TFRT_CPU_0", "kind": "cpu"}]}}
GPUS = {"tensorflow": {"devices": [*CPUS["tensorflow"]["devices"],
                                   {"name": "/physical_device:GPU:0", "kind": "NVIDIA H200"}]},
        "jax": {"devices": [{"name": "cuda:0", "kind": "NVIDIA H200"}]}}


@pytest.fixture
def machine(monkeypatch):
    """machine(devices): what doctor says of one with both packages that sees these."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    return lambda devices: {"versions": {"jax": "0.10"}, "devices": devices, "backends": {"keras": True, "jax": True}}


@pytest.fixture
def desk_of(machine, tmp_path):
    """desk_of(devices, rehearsed): the Desk of such a machine."""
    def made(devices=GPUS, rehearsed=False):
        described = recipes_of(rehearsed, None)
        return Desk(tmp_path, rehearsed, machine(devices), {use: recipe for use, (recipe, _) in described.items()},
                    {use: words for use, (_, words) in described.items()}, {})

    return made


@pytest.fixture
def row():
    """row(name, state, code, backends): a step that has ended so."""
    def made(name, state="holds", code=0, backends=("jax",)):
        return Ended.model_validate({
            "name": name, "title": name.title(), "backends": list(backends), "state": state, "exit_code": code,
            "said": f"{name} [was] seen", "files": [], "figures": {}, "seconds": 1.5})

    return made
