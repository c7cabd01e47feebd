"""Which backends take steps on a machine, and what is trained there."""

import os

import pytest

from tests.benchmarks.device_check.conftest import CPUS, GPUS
from twinscale.benchmarks.device_check import desk as desks


def test_a_backend_that_sees_no_gpu_takes_no_step_but_in_a_rehearsal(desk_of):
    assert desk_of().usable == ("keras", "jax")
    half = desk_of({**GPUS, "jax": CPUS["jax"]})
    assert half.usable == ("keras",)
    assert half.lacks("jax").startswith("jax sees no GPU here, but TFRT_CPU_0; pip install 'twinscale[jax-cuda]'")
    assert desk_of(CPUS).usable == () and desk_of(CPUS, True).usable == ("keras", "jax")
    broken = desk_of({**GPUS, "tensorflow": {"error": "libcudart.so: not found"}}, True)
    assert broken.lacks("keras") == "tensorflow: libcudart.so: not found" and broken.usable == ("jax",)


def test_a_backend_that_is_not_installed_says_what_installs_it(desk_of, monkeypatch):
    desk = desk_of()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "flax" else name)
    assert "flax is not installed; pip install" in desk.lacks("jax") and desk.usable == ("keras",)


def test_kinds_are_those_of_devices_that_are_no_cpu(desk_of):
    assert desks.accelerators(desk_of().environment) == {"keras": ["NVIDIA H200"], "jax": ["NVIDIA H200"]}
    assert desks.accelerators(desk_of(CPUS).environment) == {"keras": [], "jax": []}


@pytest.mark.parametrize("rehearsed", [True, False])
def test_what_is_trained_can_show_what_it_is_for(rehearsed):
    """ReLUs in float64, where no flip hides a difference; a decoder whose heads cuDNN's kernel takes."""
    found = {use: recipe for use, (recipe, _) in desks.recipes_of(rehearsed, None).items()}
    assert found["mlp"].train.precision == "float64" and found["decoder"].train.precision == "float32"
    narrow = found["bfloat16"]
    width, length = narrow.model.head_width, narrow.data.sequence
    assert narrow.jax.kernel(narrow.train.precision, width, length, True, "gpu", "9.0") == "cudnn"
    assert narrow.train.precision == "bfloat16"
    assert found["bench"].name == ("decoder-stdlib" if rehearsed else "decoder-125m")
    assert found["mlp"].train.steps == (6 if rehearsed else 50)


def test_another_recipe_may_be_benched():
    recipe, words = desks.recipes_of(True, "mlp-digits")["bench"]
    assert (recipe.name, words, recipe.train.steps) == ("mlp-digits", ("mlp-digits",), 300)


def test_a_rehearsal_sees_no_gpu_and_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(KeyboardInterrupt), desks.seeing(True):
        assert (os.environ["JAX_PLATFORMS"], os.environ["CUDA_VISIBLE_DEVICES"]) == ("cpu", "-1")
        raise KeyboardInterrupt
    assert os.environ["JAX_PLATFORMS"] == "cuda" and "CUDA_VISIBLE_DEVICES" not in os.environ
    with desks.seeing(False):
        assert os.environ["JAX_PLATFORMS"] == "cuda"
