"""Single steps as trials: from the states that one run had, so that what a step has changed by chance is no part of the
next."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from twinscale.common.data import training_batches
from twinscale.common.families.parameters import dithering, is_trained
from twinscale.common.files.tensors import difference, load_tensors, save_tensors
from twinscale.common.numbers.formats import DITHER
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.room import Room
from twinscale.common.training.session import open_session
from twinscale.common.training.stages import traced


def step_trials(room: Room, recipe: Recipe, path: Path, teacher: Path, steps: Sequence[int], loud: float) -> None:
    """Takes each of `steps`, and the one after it, from the very state that the run `teacher` had before it, and so do
    two twins: one as every twin, one `loud` times as dithered.

    Writes the safetensors file `path`: "loss", float64 (3, steps, 2), of the run, the twin and the loud twin at the
    step and the next; "STEP/gradients/NAME", of the run; "apart", float64 (2, steps), how far the twins' gradients lie
    from the run's, of the tensor that is furthest: max |a - b| / max |b|.
    """
    dither = DITHER[recipe.train.precision]
    variants = ((0.0, False), (dither, True), (loud * dither, True))
    losses, apart, kept = np.zeros((3, len(steps), 2)), np.zeros((2, len(steps))), {}
    with room.numerics(recipe):
        session = open_session(room, recipe)
        state = session.state
        for i, step in enumerate(steps):
            begun, own = load_tensors(traced(recipe, teacher, step)), {}
            for j, (moved, permuted) in enumerate(variants):
                tensors = dithered(recipe, begun, moved) if moved else begun
                state = room.with_tensors(recipe, state, session.devices, tensors, step)
                stop = min(step + 2, recipe.train.steps)
                for number, batch, _ in training_batches(session.dataset, recipe, step, stop, permuted=permuted):
                    if number == step:
                        found = gradients(session.step_tensors(state, number, batch))
                    state, metrics = session.step(state, number, batch, (0, 0, 0))
                    losses[j, i, number - step] = float(metrics["loss"])
                if j:
                    apart[j - 1, i] = furthest(found, own)
                own = own or found
            kept |= {f"{step}/{name}": x for name, x in own.items()}
    save_tensors(path, {"loss": losses, "apart": apart} | kept)


def gradients(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients among a step's tensors."""
    return {name: np.array(x) for name, x in tensors.items() if name.startswith("gradients/")}


def furthest(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """The `difference` of the tensor that is furthest."""
    return max((difference(one[name], x) for name, x in other.items()), default=0.0)


def dithered(recipe: Recipe, tensors: Mapping[str, np.ndarray], dither: float) -> dict[str, np.ndarray]:
    """What a twin starts from: each trained weight v becomes v (1 + u), u within `dither`, as at the first step."""
    def moved(name, x):
        if not name.startswith("weights/") or not is_trained(name.removeprefix("weights/")):
            return x
        return (x * dithering(recipe.seed, name, dither, x.shape)).astype(x.dtype)

    return {name: moved(name, x) for name, x in tensors.items()}
