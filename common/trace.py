"""What a comparison asks of a backend besides a training: its contract, its first step, its optimizer alone."""

import hashlib
import itertools

import numpy as np

from common.data import open_dataset, training_batches
from common.parameters import parameters
from common.session import open_session
from common.synthetic import synthetic_gradients
from common.tensors import load_tensors, save_tensors


def contract(room, recipe, weights=True, dataset=None):
    """SHA-256 of everything that must be bitwise equal in both backends before the first step, by what it is, on an
    open `dataset` or on that of the recipe; first weights too large to copy may be left out."""
    dataset = dataset or open_dataset(recipe)
    with room.numerics(recipe):
        state = room.state_tensors(open_session(room, recipe).state) if weights else {}
        tensors = {name: x for name, x in state.items() if name.startswith("weights/")} | room.shared_tensors(recipe)
    batches = itertools.islice(training_batches(dataset, recipe, 0, recipe.train.steps), 3)
    return {"recipe": recipe.meaning, "data": digest_of_manifest(dataset.manifest),
            **{f"batch {step}": digest for step, _, digest in batches},
            **{name: hashlib.sha256(np.ascontiguousarray(x)).hexdigest() for name, x in tensors.items()}}


def first_step(room, recipe, path, permuted=False, dither=0.0):
    """Writes what the first step computes before its update to the safetensors file `path`, rows in shared order."""
    with room.numerics(recipe):
        session = open_session(room, recipe, dither)
        _, batch, _ = next(training_batches(session.dataset, recipe, 0, 1, permuted=permuted))
        tensors = session.step_tensors(session.state, 0, batch)
    tensors["logits"] = tensors["logits"][np.argsort(batch["row"])]
    save_tensors(path, tensors)


def step_taps(room, recipe, path, number, teacher=None):
    """Writes what every place makes of step `number`'s batch under the first weights, forward and backward, to the
    safetensors file `path`; with `teacher`, such a file of another backend, what each makes of the other's numbers."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        _, batch, _ = next(training_batches(session.dataset, recipe, number, number + 1))
        taught = load_tensors(teacher) if teacher else None
        save_tensors(path, session.step_taps(session.state, number, batch, taught))


def optimizer_steps(room, recipe, path, updates):
    """Writes what `updates` updates by synthetic gradients leave to the safetensors file `path`: "clipped/NAME" of the
    first, and after each the state's tensors as "UPDATE/GROUP/NAME"."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        tree = parameters(recipe.model, session.dataset.classes, session.dataset.example_shape)
        gradients = [synthetic_gradients(tree, update) for update in range(updates)]
        found = {f"clipped/{name}": x for name, x in room.clip_gradients(recipe, gradients[0]).items()}
        states = room.apply_gradients(recipe, session.state, session.devices, gradients)
        for update, state in enumerate(states):
            found |= {f"{update}/{name}": x for name, x in room.state_tensors(state).items()}
        save_tensors(path, found)


def digest_of_manifest(manifest):
    """SHA-256 of a data manifest."""
    return hashlib.sha256(repr(sorted(manifest.items())).encode()).hexdigest()
