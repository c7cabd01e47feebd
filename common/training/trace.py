"""What a comparison asks of a backend besides a training: its contract, its first step, its optimizer alone."""

import hashlib
import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data import open_dataset, training_batches
from twinscale.common.data.arrays import ADDED, JUDGED
from twinscale.common.errors import one_of
from twinscale.common.families import family_of
from twinscale.common.families.adapters import tree_of
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.operations.in_place import few, place_rows, rounded_taps
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.points import POINTS, generic_tensors, stress_arrays, stress_batch
from twinscale.common.operations.quantised import quanta
from twinscale.common.operations.references import FORMATS
from twinscale.common.operations.synthetic import synthetic_gradients
from twinscale.common.recipe.schema import Recipe, in_sharpest
from twinscale.common.training.room import Room
from twinscale.common.training.session import open_session

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.training.session import Session


def contract(room: Room, recipe: Recipe, weights: bool = True, dataset: "Dataset | None" = None) -> dict[str, Any]:
    """SHA-256 of everything that must be bitwise equal in both backends before the first step, by what it is, on an
    open `dataset` or on that of the recipe; first weights too large to copy may be left out."""
    dataset = dataset or open_dataset(recipe)
    with room.numerics(recipe):
        state = room.state_tensors(open_session(room, recipe).state) if weights else {}
        tensors = {name: x for name, x in state.items() if name.startswith("weights/")} | room.shared_tensors(recipe)
    batches = itertools.islice(training_batches(dataset, recipe, 0, recipe.train.steps), 3)
    return {"recipe": recipe.meaning, "data": digest_of_manifest(dataset.manifest),
            **{f"batch {step}": digest for step, _, digest in batches},
            **{name: hashlib.sha256(np.ascontiguousarray(x)).hexdigest()  # type: ignore[arg-type]  # it is a buffer
               for name, x in tensors.items()}}


def first_step(room: Room, recipe: Recipe, path: Path, permuted: bool = False, dither: float = 0.0,
               point: str | Path = "first") -> None:
    """Writes what the first step computes before its update at a point of POINTS to the safetensors file `path`, rows
    in shared order."""
    with room.numerics(recipe):
        session = open_session(room, recipe, dither if point == "first" else 0.0)
        batch, state = at_point(room, recipe, session, batch_at(recipe, session, point), point, dither)
        if permuted:
            _, order, _ = next(training_batches(session.dataset, recipe, 0, 1, permuted=True))
            batch = {name: x[order["row"]] for name, x in batch.items()}
        tensors = session.step_tensors(state, 0, batch)
    tensors["logits"] = tensors["logits"][np.argsort(batch["row"])]
    save_tensors(path, tensors)


def step_taps(room: Room, recipe: Recipe, path: Path, number: int, teacher: Path | None = None) -> None:
    """Writes what every place makes of step `number`'s batch under the first weights, forward and backward, to the
    safetensors file `path`; with `teacher`, such a file of another backend, what each makes of the other's numbers."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        _, batch, _ = next(training_batches(session.dataset, recipe, number, number + 1))
        taught = load_tensors(teacher) if teacher else None
        save_tensors(path, session.step_taps(session.state, number, batch, taught))


def places_at(room: Room, recipe: Recipe, point: str | Path, given: Path, mine: Path, theirs: Path | None = None,
              beside: Path | None = None) -> dict[str, Any]:
    """What every place makes of given numbers in the recipe's precision and in float64, at a point of POINTS with
    generic weights, or at a later step.

    Args:
      point: of POINTS, or the file of the state before a step; of that the values of bfloat16, which every precision
        has alike.
      given: the safetensors file of the numbers. Who finds none makes them up: its own float64's, rounded to the
        precision.
      mine: the file in which this backend leaves what its float64 makes of them; theirs: that of the other, if it is
        to be judged beside it; beside: that of a copy of this process which is at the same, to be read where it is
        there by then.
    Returns: {"own": `common.operations.in_place.place_rows` beside this backend's float64, none where that is the
    precision;
      "float64": those of this backend's float64 beside the other's; "dtypes": {tensor: dtype} of what it made in the
      precision}.
    """
    precision, semantic = recipe.train.precision, in_sharpest(recipe)
    if not given.exists():
        save_tensors(given, rounded_taps(recipe.model, taps_at(room, semantic, point)[0], precision))
    rows: dict[str, Any] = {"own": [], "float64": []}
    taught = load_tensors(given)
    narrow = taps_at(room, recipe, point, taught) if precision != "float64" else None
    wide, dataset = (load_tensors(beside), narrow[1]) if narrow and beside and beside.exists() else (
        taps_at(room, semantic, point, taught))
    found = narrow[0] if narrow else wide
    if narrow:
        blocks = room.backend == "keras" and not recipe.keras.jit_compile
        rows["own"] = place_rows(recipe, dataset, (taught, found, wide), precision, blocks,
                                 quanta_at(room, recipe, point, taught))
    if theirs:
        rows["float64"] = place_rows(recipe, dataset, (taught, wide, load_tensors(theirs)), "float64")
    save_tensors(mine, wide)
    rows["dtypes"] = {name: x.dtype.name for name, x in found.items() if name.startswith(("forward/", "loss/"))}
    return rows


def taps_at(room: Room, recipe: Recipe, point: str | Path, taught: dict[str, np.ndarray] | None = None
           ) -> "tuple[dict[str, np.ndarray], Dataset]":
    """(what every place makes at a point, of a few rows of the batch or at a later step of all, fed with `taught` where
    there is any; the dataset)."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        batch = batch_at(recipe, session, point)
        if point in POINTS:
            batch, state = at_point(room, recipe, session, few(batch, session.dataset.example_shape), point)
        else:
            batch, tensors = with_rounded_inputs(batch), load_tensors(point)
            tensors = {name: rounded(x, FORMATS["bfloat16"]) for name, x in tensors.items()}
            state = room.with_tensors(recipe, session.state, session.devices, tensors, step_of(point))
        return session.step_taps(state, step_of(point), batch, taught), session.dataset


def quanta_at(room: Room, recipe: Recipe, point: str | Path, given: Mapping[str, np.ndarray]
              ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """How far products in 8 bits carry what places make of `given` at a point; nothing where there are none."""
    if recipe.train.products == "full":
        return {}
    with room.numerics(recipe):
        session = open_session(room, recipe)
        batch, state = at_point(room, recipe, session, batch_at(recipe, session, point), point)
        return quanta(recipe.model, given, room.state_tensors(state), recipe.train.precision,
                      recipe.train.products)


def step_of(point: str | Path) -> int:
    """The step that a point is at: 0 for one of POINTS, N for the file step_N.safetensors of a state before a step."""
    return 0 if point in POINTS else int(Path(point).stem.removeprefix("step_"))


def batch_at(recipe: Recipe, session: "Session", point: str | Path) -> dict[str, Any]:
    """The whole batch of the step that a point is at."""
    number = step_of(point)
    return next(training_batches(session.dataset, recipe, number, number + 1))[1]


def at_point(room: Room, recipe: Recipe, session: "Session", batch: dict[str, Any], point: str | Path,
             dither: float = 0.0) -> tuple[Any, Any]:
    """(batch, state) at a point, of a session's first state and a batch; a twin's weights are dithered."""
    state = session.state
    if point not in POINTS:
        return batch, room.with_tensors(recipe, state, session.devices, load_tensors(point), step_of(point))
    if point != "first":
        tensors = generic_tensors(room.state_tensors(state), recipe.seed, dither)
        state = room.with_tensors(recipe, state, session.devices, tensors, 0)
        batch = with_rounded_inputs(batch)
    if one_of({"first": False, "generic": False, "stress": True}, point, "point"):
        own, fill = family_of(recipe.model).stress, None
        if session.dataset.kind == "arrays":
            fill = partial(own, recipe.model) if own else stress_arrays
        batch = stress_batch(batch, session.dataset.classes, recipe.seed, recipe.train.accumulate, fill)
    return batch, state


def with_rounded_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch whose inputs have values of bfloat16, which every precision has alike."""
    return {name: x if name in (*JUDGED, *ADDED) else rounded(x, FORMATS["bfloat16"]) for name, x in batch.items()}


def optimizer_steps(room: Room, recipe: Recipe, path: Path, updates: int) -> None:
    """Writes what `updates` updates by synthetic gradients leave to the safetensors file `path`: "clipped/NAME" of the
    first, and after each the state's tensors as "UPDATE/GROUP/NAME"."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        tree = tree_of(recipe, session.dataset.classes, session.dataset.example_shape)
        found = {f"clipped/{name}": x for name, x in room.clip_gradients(recipe, synthetic_gradients(tree, 0)).items()}
        gradients = (synthetic_gradients(tree, update) for update in range(updates))
        states = room.apply_gradients(recipe, session.state, session.devices, gradients)
        for update, state in enumerate(states):
            found |= {f"{update}/{name}": x for name, x in room.state_tensors(state).items()}
        save_tensors(path, found)


def digest_of_manifest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a data manifest."""
    return hashlib.sha256(repr(sorted(manifest.items())).encode()).hexdigest()
