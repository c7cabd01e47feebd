"""What a check knows before its first step: the recipes that it trains, and which backends see what devices."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinscale.benchmarks.device_check.result import Ended
from twinscale.benchmarks.meshes import jumps
from twinscale.benchmarks.workers import CPU
from twinscale.common.need import BACKENDS, lacking, missing
from twinscale.common.recipe.file import given
from twinscale.common.recipe.schema import Recipe, in_sharpest

FRAMEWORKS = {"keras": "tensorflow", "jax": "jax"}  # as `twinscale doctor` calls them
EXTRAS = {"keras": "cuda", "jax": "jax-cuda"}
SMALL = ("train.steps=6", "schedule.warmup=2", "compare.float64_steps=2")  # of a rehearsal
NARROW = (*SMALL, "model.layers=1", "model.width=32", "model.heads=2", "data.sequence=32", "train.global_batch=4")
# {use: (recipe, overrides, overrides of a rehearsal)}; heads are of 32, which a fused kernel takes.
SHORT = ("train.steps=50",)
TRAINED = {"mlp": ("mlp-digits", SHORT, SMALL), "decoder": ("decoder-stdlib", SHORT, NARROW)}
BENCHED = "decoder-125m"


@dataclass(frozen=True)
class Desk:
    """A check at work: where, whether it is a rehearsal on the CPU, what doctor says, {use: recipe}, {use: its words},
    and {step: what has ended}."""

    out: Path
    rehearsed: bool
    environment: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    words: Mapping[str, tuple[str, ...]]
    ended: dict[str, Ended]

    @property
    def where(self) -> str:
        """Where trainings are that are to be on the device: see `trained`."""
        return "cpu" if self.rehearsed else "device"

    def lacks(self, backend: str) -> str | None:
        """Why a backend takes no step here, or None."""
        if module := lacking(BACKENDS[backend]):
            return missing(module)
        framework = FRAMEWORKS[backend]
        said = self.environment["devices"].get(framework, {"error": "it is not installed"})
        if "error" in said:
            return f"{framework}: {said['error']}"
        if not self.rehearsed and not accelerators(self.environment)[backend]:
            names = ", ".join(device["name"] for device in said["devices"])
            return (f"{framework} sees no GPU here, but {names or 'nothing'}; pip install "
                    f"'twinscale[{EXTRAS[backend]}]', or look at the driver with nvidia-smi")
        return None

    @property
    def usable(self) -> tuple[str, ...]:
        """The backends that take steps here."""
        return tuple(backend for backend in FRAMEWORKS if self.lacks(backend) is None)


def accelerators(environment: Mapping[str, Any]) -> dict[str, list[str]]:
    """{backend: kinds of the devices that its framework sees besides CPUs}."""
    return {backend: [device["kind"] for device in environment["devices"].get(framework, {}).get("devices", ())
                      if "cpu" not in device["name"].lower()] for backend, framework in FRAMEWORKS.items()}


def recipes_of(rehearsed: bool, benched: str | None) -> dict[str, tuple[Recipe, tuple[str, ...]]]:
    """{use: (recipe, its file and overrides)} of "mlp", "decoder", "bfloat16" and "bench", which is of `benched` where
    a recipe is named. What jumps is trained in its sharpest precision, as meshes are. Raises BadInput."""
    def made(name, real, small):
        words = (name, *(small if rehearsed else real))
        return given(name, words[1:]), words

    found = {use: made(*described) for use, described in TRAINED.items()}
    for use, (recipe, words) in found.items():
        if jumps(recipe):
            precision = in_sharpest(recipe).train.precision
            found[use] = recipe.with_values(train={"precision": precision}), (*words, f"train.precision={precision}")
    decoder, words = found["decoder"]
    found["bfloat16"] = decoder.with_values(train={"precision": "bfloat16"}), (*words, "train.precision=bfloat16")
    if benched is not None:
        found["bench"] = given(benched), (benched,)
    else:
        found["bench"] = found["bfloat16"] if rehearsed else made(BENCHED, (), ())
    return found


@contextmanager
def seeing(rehearsed: bool) -> Iterator[None]:
    """While open, this process and those that it starts see no GPU where it is a rehearsal."""
    kept = {name: os.environ.get(name) for name in CPU}
    if rehearsed:
        os.environ.update(CPU)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
