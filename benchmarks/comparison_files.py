"""The names of what a comparison's directory holds, one of compressions too: nothing else spells them.

HOLDS says the same as a layout, by which what is ours is told from what is somebody else's. A `run` is a side's name
("keras", "jax") or its twin's ("keras-twin").
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinscale.benchmarks.output import REPORT
from twinscale.common.files.run_files import RECIPE, RUN, TRACKERS

MARKER, VERDICT, COMPRESSION = ".comparison", "verdict.json", "compression.json"
DIFFERENCES = "differences.json"  # of runs that are not ours
COLUMNS, PAIRS = "columns.json", "pairs"  # of three columns: the verdict on them, and the comparisons of two each
PAGE, MARKDOWN = "report.html", "report.md"
RUNS, TENSORS, OUTCOME, MESHES = "runs", "tensors", "outcome", "meshes"
HOLDS: dict[str, Any] = {
    r"(verdict|compression|differences|columns)\.json|recipe\.toml": None, REPORT: None, TRACKERS: None,
    TENSORS: {r"(contract|first-step|optimizer|taps|places|sight|step|trials)-.*|"
              r"\d+-.*-(start|teacher|masks|quanta|shadow|held-out).*": None},
    RUNS: {r"(keras|jax)-.*": RUN}, OUTCOME: {r"(keras|jax)-seed-\d+": RUN}, "swap": {r".*\.safetensors": None},
    MESHES: {r"documents\.jsonl|(keras|jax)(-.*\.(toml|log)|\.json)": None, r"(keras|jax)-[^.]*": RUN},
    "left": {r"(keras|jax)-.*\.safetensors": None}, "files": {r"(keras|jax)-.*\.tflite": None}}
HOLDS[PAIRS] = {r"[a-z-]+\+[a-z-]+": {**HOLDS, re.escape(MARKER): None}}


@dataclass(frozen=True)
class ComparisonFiles:
    """Of a comparison's directory, each as a path."""

    path: Path

    @property
    def verdict(self) -> Path:
        """What the comparison says."""
        return self.path / VERDICT

    @property
    def differences(self) -> Path:
        """How far runs of others are apart."""
        return self.path / DIFFERENCES

    @property
    def compression(self) -> Path:
        """What a compression says."""
        return self.path / COMPRESSION

    @property
    def columns(self) -> Path:
        """What a comparison of three columns says."""
        return self.path / COLUMNS

    @property
    def pairs(self) -> Path:
        """The directory of the comparisons of two columns each."""
        return self.path / PAIRS

    def pair(self, columns: Sequence[str]) -> Path:
        """The directory in which two columns of three are compared."""
        return self.pairs / "+".join(columns)

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / RECIPE

    @property
    def tensors(self) -> Path:
        """The directory of what the ladder reads besides runs."""
        return self.path / TENSORS

    def run(self, run: str, precision: str) -> Path:
        """A trajectory's run."""
        return self.path / RUNS / f"{run}-{precision}"

    def traced(self, backend: str, precision: str) -> Path:
        """A run that leaves the states before some steps."""
        return self.run(f"{backend}-traced", precision)

    def seed(self, backend: str, seed: int) -> Path:
        """The run from another seed."""
        return self.path / OUTCOME / f"{backend}-seed-{seed}"

    def seeds(self, backend: str) -> Iterator[Path]:
        """The runs from all other seeds."""
        return (self.path / OUTCOME).glob(f"{backend}-seed-*")

    def contract(self, backend: str) -> Path:
        """The hashes of what is shared."""
        return self.tensors / f"contract-{backend}.json"

    def first_step(self, run: str, precision: str, point: str) -> Path:
        """Logits, loss and gradients of the first step at a point."""
        return self.tensors / f"first-step-{run}-{precision}-{point}.safetensors"

    def optimizer(self, backend: str, meaning: str) -> Path:
        """What synthetic gradients left of an optimizer."""
        return self.tensors / f"optimizer-{backend}-{meaning}.safetensors"

    def taps(self, backend: str, precision: str, number: int) -> Path:
        """What every place makes of a step."""
        return self.tensors / f"taps-{backend}-{precision}-{number}.safetensors"

    def step(self, backend: str, precision: str, point: str) -> Path:
        """What a step makes of a state."""
        return self.tensors / f"step-{backend}-{precision}-{point}.safetensors"

    def places(self, backend: str) -> Path:
        """What every place makes of shared numbers: PlaceRows."""
        return self.tensors / f"places-{backend}.json"

    def numbers(self, point: str, what: str) -> Path:
        """Those numbers, and what a backend made of them."""
        return self.tensors / f"places-{point}-{what}.safetensors"

    def all_numbers(self) -> Iterator[Path]:
        """Those of all points."""
        return self.tensors.glob("places-*.safetensors")

    def sight(self, backend: str, precision: str) -> Path:
        """What is seen of a program that nobody has described."""
        return self.tensors / f"sight-{backend}-{precision}.safetensors"

    def trials(self, backend: str, precision: str) -> Path:
        """Steps from equal states."""
        return self.tensors / f"trials-{backend}-{precision}.safetensors"

    def stopped(self, run: str) -> Path:
        """The state in which a training was stopped, to go on from a checkpoint."""
        return self.tensors / f"trials-stopped-{run}.safetensors"

    def swapped(self, cell: tuple[str, str], what: str) -> Path:
        """What a program under a runtime, a `cell` of two names, has made."""
        return self.path / "swap" / f"{words('-'.join(cell))}-{what}.safetensors"

    @property
    def meshes(self) -> Path:
        """The directory of the runs on several devices: MeshFiles."""
        return self.path / MESHES

    # ---- of stages, by their labels

    def stage(self, backend: str, label: str, twin: bool = False) -> Path:
        """The run of a stage."""
        return self.path / RUNS / f"{backend}-{label}{'-twin' * twin}"

    def start(self, label: str) -> Path:
        """What a stage starts from."""
        return self.tensors / f"{label}-start.safetensors"

    def teacher(self, label: str) -> Path:
        """The model that a stage learns from, where that is no stage's."""
        return self.tensors / f"{label}-teacher.safetensors"

    def masks(self, label: str, maker: str, owner: str, update: int) -> Path:
        """Masks that one backend has made of the other's weights."""
        return self.tensors / f"{label}-masks-{maker}-of-{owner}-{update}.safetensors"

    def quanta(self, label: str, backend: str) -> Path:
        """What a backend's quantiser makes of Keras' final weights."""
        return self.tensors / f"{label}-quanta-{backend}.safetensors"

    def shadow(self, label: str, backend: str) -> Path:
        """A stage's steps from equal states."""
        return self.tensors / f"{label}-shadow-{backend}.safetensors"

    def held_out(self, label: str, backend: str) -> Path:
        """The loss of each held-out row."""
        return self.tensors / f"{label}-held-out-{backend}.safetensors"

    def left(self, backend: str, label: str) -> Path:
        """The model that a stage has left."""
        return self.path / "left" / f"{backend}-{label}.safetensors"

    def shipped(self, backend: str, label: str, name: str, batch: int) -> Path:
        """The LiteRT file that it ships as."""
        return self.path / "files" / f"{backend}-{label}-{name}-{batch}.tflite"


@dataclass(frozen=True)
class MeshFiles:
    """Of the directory of runs on several devices, each as a path."""

    path: Path

    @property
    def documents(self) -> Path:
        """The short documents that decoders read there."""
        return self.path / "documents.jsonl"

    def run(self, backend: str, mesh: str, twin: bool = False) -> Path:
        """The run on a mesh, by its name."""
        return self.path / f"{backend}-{words(mesh)}{'-twin' * twin}"

    def recipe(self, backend: str, mesh: str) -> Path:
        """The recipe that hosts are started with."""
        return self.run(backend, mesh).with_name(f"{self.run(backend, mesh).name}.toml")

    def found(self, backend: str) -> Path:
        """What was found of all of a backend's meshes."""
        return self.path / f"{backend}.json"

    def log(self, backend: str, mesh: str) -> Path:
        """What those hosts have said."""
        return self.recipe(backend, mesh).with_suffix(".log")


def words(name: str) -> str:
    """A name as a file's is written: with dashes in place of blanks and commas."""
    return name.replace(", ", "-").replace(" ", "-")
