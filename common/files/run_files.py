"""The names of what a run's directory holds, and a state's, which `convert` makes of a run: nothing else spells them.

RUN and STATE say the same as layouts, by which what is ours is told from what is somebody else's.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinscale.common.backends import BACKENDS
from twinscale.common.files.access import exists, place

RECIPE, METRICS = "recipe.toml", "metrics.jsonl"  # in a run and in a state; the recipe wherever a verb leaves it
INFO, INDEX, WEIGHTS = "run.json", "index.json", "state.safetensors"
LOCK = ".lock"
TRACKERS = "trackers"  # the folder of what trackers of experiments write, in a run and in a comparison
TOKENIZER, SOURCES = "data/tokenizer.json", "data/files.txt"
HOSTS, CHECKPOINTS, TRACE, MANIFESTS, NEWEST = "hosts", "checkpoints", "trace", "manifests", "checkpoint"
LISTED = re.compile(r"step_(0|[1-9][0-9]{0,15})\.json")
TRACED = re.compile(r"step_([0-9]{1,15})\.safetensors")

BY_RUNTIME = {  # what each runtime writes of a checkpoint, the step first; half-written ones too
    "tensorflow": r"step-(\d+)((\.index|\.data-\d+-of-\d+)(\.tempstate.*)?|_temp.*)",
    "jax": r"step_(\d+)(\.orbax-checkpoint-tmp.*)?"}
STEPS = {name: BY_RUNTIME[each.runtime] for name, each in BACKENDS.items()}
DATA = {r"tokenizer\.json|files\.txt": None}
STATE_MARKER = ".state"
STATE = {rf"{re.escape(STATE_MARKER)}|index\.json|recipe\.toml|metrics\.jsonl|state\.safetensors": None, "data": DATA}
OF_HOSTS = {r"\d+\.(json|stacks)": None}
RUN: dict[str, Any] = {
    r"run\.json|recipe\.toml|metrics\.jsonl|predictions\.safetensors|events\.out\.tfevents\..*": None,
    "data": DATA, HOSTS: OF_HOSTS,
    CHECKPOINTS: {"|".join(BY_RUNTIME.values()): None, NEWEST: None, MANIFESTS: {r"step_\d+\.json": None}},
    TRACE: {r"(step_\d+|final)\.safetensors|(contract|batches)\.json": None}, "export": {"state": STATE},
    TRACKERS: None, re.escape(LOCK): None}
RUN[TRACE]["twin"] = RUN
FILLED = (INFO, WEIGHTS, STATE_MARKER, "export.json", ".export", "verdict.json", "compression.json",
          "columns.json", ".comparison", ".tune")


def is_filled(file: Path) -> bool:
    """Whether a file lies in a directory that a verb has filled, or in a folder of it: a run, a state, an export, a
    comparison, of whoever it may be."""
    folder = file.absolute().parent
    return any(exists(place / name) for place in (folder, folder.parent) for name in FILLED)


@dataclass(frozen=True)
class StateFiles:
    """Of a state's directory, each as a path."""

    path: Any

    @property
    def index(self) -> Path:
        """What the state is of."""
        return self.path / INDEX

    @property
    def tensors(self) -> Path:
        """Its tensors."""
        return self.path / WEIGHTS

    @property
    def recipe(self) -> Path:
        """The resolved recipe of its run."""
        return self.path / RECIPE

    @property
    def metrics(self) -> Path:
        """The lines of its run's metrics until then."""
        return self.path / METRICS


@dataclass(frozen=True)
class RunFiles:
    """Of a run's directory, each as a path."""

    path: Any

    @property
    def info(self) -> Path:
        """run.json."""
        return self.path / INFO

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / RECIPE

    @property
    def metrics(self) -> Path:
        """A line for each step that was logged."""
        return self.path / METRICS

    @property
    def predictions(self) -> Path:
        """What its last evaluation predicts of each held-out row."""
        return self.path / "predictions.safetensors"

    @property
    def lock(self) -> Path:
        """What the process that trains holds."""
        return self.path / LOCK

    @property
    def hosts(self) -> Path:
        """The directory of the hosts' signs of life."""
        return self.path / HOSTS

    def beat(self, host: int) -> Path:
        """A host's last sign of life."""
        return self.hosts / f"{host}.json"

    def stacks(self, host: int) -> Path:
        """Where a host that hangs leaves its stacks."""
        return self.hosts / f"{host}.stacks"

    @property
    def checkpoints(self) -> Path:
        """The directory of the backend's checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def manifests(self) -> Path:
        """The directory of what says that a checkpoint is whole."""
        return self.checkpoints / MANIFESTS

    def manifest(self, step: int) -> Path:
        """What says so of one."""
        return self.manifests / f"step_{step}.json"

    def listed(self) -> list[int]:
        """The steps that have a manifest, in order."""
        found = (LISTED.fullmatch(file.name) for file in self.manifests.glob("step_*.json"))
        return sorted(int(name[1]) for name in found if name)

    @property
    def trace(self) -> Path:
        """The directory of what a probe has asked for."""
        return self.path / TRACE

    @property
    def contract(self) -> Path:
        """The hashes of what is shared before the first step."""
        return self.trace / "contract.json"

    @property
    def batches(self) -> Path:
        """The hash of each batch."""
        return self.trace / "batches.json"

    @property
    def final(self) -> Path:
        """The tensors, or their sketches, at the end."""
        return self.trace / "final.safetensors"

    def step(self, number: int) -> Path:
        """The same before a step."""
        return self.trace / f"step_{number}.safetensors"

    def steps(self) -> dict[int, Path]:
        """{step: file} of those that were traced."""
        found = {TRACED.fullmatch(file.name): file for file in self.trace.iterdir()}
        return {int(name[1]): file for name, file in found.items() if name}

    @property
    def twin(self) -> Path:
        """The run of its twin."""
        return self.trace / "twin"

    @property
    def state(self) -> StateFiles:
        """The state that was made of it where it is."""
        return StateFiles(self.path / "export" / "state")


def run_files(path: Path | str) -> RunFiles:
    """The RunFiles of a path as text, which may be in a bucket."""
    return RunFiles(place(path))
