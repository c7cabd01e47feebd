"""Runs the stages of a compression: what each starts from is written once, as a file, so that both backends begin with
equal bits."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import first_tensors, stripped, summary, verified
from twinscale.common.data import held_out_batches, open_dataset, training_batches
from twinscale.common.families.parameters import dithering, is_trained, longest_sum, parameters
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.numbers.formats import DITHER
from twinscale.common.recipe.schema import Recipe, micro_batch
from twinscale.common.training.loop import run_training
from twinscale.common.training.room import Room
from twinscale.common.training.session import open_session

if TYPE_CHECKING:
    from twinscale.common.data import Dataset


def make_start(room: Room, recipe: Recipe, left: Path, path: Path) -> None:
    """Writes what a stage's recipe starts from to the safetensors file `path`; `left` is such a file of {canonical
    name: array}, the model that the stage before has left, or the teacher."""
    dataset, tensors = open_dataset(recipe), load_tensors(left)
    save_tensors(path, first_tensors(recipe, dataset, tensors, calibrated(room, recipe, dataset, tensors)))


def calibrated(room: Room, recipe: Recipe, dataset: "Dataset", tensors: dict[str, np.ndarray]
              ) -> dict[str, tuple[float, float]]:
    """{place: (min, max)} of what a quantised model's places compute over the first batches; empty where nothing is
    calibrated."""
    count = getattr(active(recipe), "calibrate", 0)
    if not count:
        return {}
    batches = [batch for _, batch, _ in training_batches(dataset, recipe, 0, count)]
    with room.numerics(recipe):
        return room.extremes(recipe, dataset, room.open_devices(recipe), tensors, batches)


def train_stage(room: Room, recipe: Recipe, run_dir: Path, start: Path, overwrite: bool = False, probe: Any = None,
                progress: bool = True) -> dict[str, float]:
    """Trains a stage's recipe from the tensors in file `start` into a run; see `common.training.loop.run_training`."""
    tensors = load_tensors(start)
    if probe and probe.dither:
        tensors = dithered(recipe, tensors, probe.dither)
    begun = {"tensors": tensors, "step": 0, "origin": {"path": str(start)}, "metrics": b""}
    return run_training(room.compressing, recipe, run_dir, overwrite=overwrite, probe=probe, progress=progress,
                        begun=begun)


def dithered(recipe: Recipe, tensors: dict[str, np.ndarray], dither: float) -> dict[str, np.ndarray]:
    """What a twin starts from: each weight v becomes v (1 + u), zeros stay.

    Without quantisation u is within `dither` sqrt(K), what a sum of K values rounds (Higham & Mary 2019), K being the
    model's longest: a trained model shows such roundings at once, where a new one would take steps. With it u is within
    `dither`, and the ranges of activations move too, for 8 bits hide what the weights do.
    """
    dataset, eight = open_dataset(recipe), active(recipe).kind in ("quantize", "post_training")
    longest = longest_sum(parameters(recipe.model, dataset.classes, dataset.example_shape))

    def changed(name, x):
        bare = name.removeprefix("weights/")
        moved = bare.endswith(".range") or is_trained(bare) and not bare.endswith("_centroids")
        most = moved * dither * (1 if eight else math.sqrt(longest))
        return (x * dithering(recipe.seed, name, most, x.shape)).astype(x.dtype)

    return {name: changed(name, x) for name, x in tensors.items()}


def shadow(room: Room, recipe: Recipe, path: Path, teacher: Path, steps: Sequence[int], loud: float) -> None:
    """Trains each of `steps` and the one after it from the very state that the run `teacher` had before it, and so do
    two twins: one as every twin, one `loud` times as dithered. So each step is a trial of its own, and what one has
    changed by chance is no part of the next.

    Writes the safetensors file `path`: "loss", float64 (3, steps, 2), of the run, the twin and the loud twin at the
    step and the next; "weights", float64 (3, steps), how far the weights lie after one update: see `typical`: the run's
    from the teacher's, the twins' from the run's.
    """
    dither = DITHER[recipe.train.precision]
    variants = ((0.0, False), (dither, True), (loud * dither, True))
    losses, apart = np.zeros((3, len(steps), 2)), np.zeros((3, len(steps)))
    with room.numerics(recipe):
        session = open_session(room.compressing, recipe)
        state = session.state
        for i, step in enumerate(steps):
            begun, nearest_to = (load_tensors(traced(recipe, teacher, n)) for n in (step, step + 1))
            for j, (moved, permuted) in enumerate(variants):
                tensors = dithered(recipe, begun, moved) if moved else begun
                state = room.compressing.with_tensors(recipe, state, session.devices, tensors, step)
                stop = min(step + 2, recipe.train.steps)
                for number, batch, _ in training_batches(session.dataset, recipe, step, stop, permuted=permuted):
                    state, metrics = session.step(state, number, batch, (0, 0, 0))
                    losses[j, i, number - step] = float(metrics["loss"])
                    if number == step:
                        after = room.compressing.state_tensors(state)
                apart[j, i] = typical(begun, after, nearest_to)
                nearest_to = nearest_to if j else after
    save_tensors(path, {"loss": losses, "weights": apart})


def traced(recipe: Recipe, run: Path, step: int) -> Path:
    """The file of the state that a run had before a step, or at its end."""
    return RunFiles(run).final if step == recipe.train.steps else RunFiles(run).step(step)


def typical(before: dict[str, np.ndarray], one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """How far two states lie apart after an update of the state `before`: of the trained tensor that is furthest, the
    median of |one - other| over the elements that have moved in either, by the tensor's largest element. A flip moves
    few elements far, a wrong update all of them."""
    worst = 0.0
    for name, x in before.items():
        if name.startswith("weights/") and is_trained(name.removeprefix("weights/")):
            moved = (one[name] != x) | (other[name] != x)
            if moved.any():
                apart = np.abs(one[name].astype(np.float64) - other[name])[moved]
                worst = max(worst, float(np.median(apart) / np.abs(other[name]).max()))
    return worst


def finish_stage(recipe: Recipe, start: Path, final: Path, path: Path) -> dict[str, Any]:
    """Writes the model alone that a stage has left, of its state in file `final`, to the safetensors file `path`.
    Returns {"summary", "verified"} of it: see `common.compress.rules`."""
    dataset = open_dataset(recipe)
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    left = stripped(recipe, load_tensors(final))
    save_tensors(path, left)
    return {"summary": summary(left), "verified": verified(recipe, tree, weights_in(start), left)}


def weights_in(state: Path) -> dict[str, np.ndarray]:
    """{name: array} of a state's file, without the optimizer's slots."""
    return {name.removeprefix("weights/"): x for name, x in load_tensors(state).items() if name.startswith("weights/")}


def stage_masks(room: Room, recipe: Recipe, path: Path, teacher: Path, update: int) -> None:
    """Writes the masks that this backend makes at an update from the weights in the state file `teacher` to the
    safetensors file `path`."""
    tensors = weights_in(teacher)
    with room.numerics(recipe):
        save_tensors(path, room.make_masks(active(recipe), update, tensors))


def quanta(room: Room, recipe: Recipe, path: Path, teacher: Path) -> None:
    """Writes what this backend's quantiser makes of values under ranges to the safetensors file `path`: for each
    X_range and P.range of the state file `teacher`, of X, and of values that fill P's range and exceed it by a
    tenth."""
    tensors, found = weights_in(teacher), {}
    with room.numerics(recipe):
        for name, (low, high) in ((name, x) for name, x in tensors.items() if name.endswith("range")):
            weights, owner = name.endswith("_range"), name[:-len("_range")]  # or ".range"
            values = tensors[owner] * tensors.get(f"{owner}_mask", 1) if weights else spread(low, high)
            found[owner] = room.fake_quantise(values.astype(np.float32), low, high, weights)
    save_tensors(path, found)


def spread(low: Any, high: Any, count: int = 4096) -> np.ndarray:
    """Values (count,) float32 at even distances over a range and a tenth of it beyond."""
    margin = (high - low) / 10
    return np.linspace(low - margin, high + margin, count, dtype=np.float32)


def held_out_losses(room: Room, recipe: Recipe, path: Path, teacher: Path) -> None:
    """Writes the held-out metrics of each held-out batch, of a stage's state in file `teacher`, to the safetensors file
    `path`: {"loss", "weight"} and of classes {"correct", "near"}, float64 (batches,)."""
    with room.numerics(recipe):
        session = open_session(room.compressing, recipe)
        state = room.compressing.with_tensors(recipe, session.state, session.devices, load_tensors(teacher), 0)
        rows = [session.evaluate(state, [batch]) for batch in held_out_batches(session.dataset, micro_batch(recipe))]
    save_tensors(path, {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]})

