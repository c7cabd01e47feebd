"""A training's whole state in neither backend's format: safetensors by canonical name, and an index of them.

    state.safetensors    "weights/NAME", "m/NAME", "v/NAME", "ema/NAME" in the masters' dtype
    index.json           {"schema_version", "step", "seed", "backend", "meaning", "sha256", "tensors": {name: {shape,
                         dtype}}}, written last
    .state               of which run it is, written first: no other run's state replaces it
    recipe.toml, metrics.jsonl    of the run that it comes from

Either backend writes it (`twinscale convert`) and goes on from it (`train --from`), on any devices.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired

from typing_extensions import TypedDict

from twinscale.common import process
from twinscale.common.compress.rules import stripped
from twinscale.common.data.kept import keep_kept, kept_in, open_kept
from twinscale.common.errors import BadInput, error_of
from twinscale.common.families.adapters import merged
from twinscale.common.files.access import place, read_bytes, read_json, shown, write_bytes, write_json, write_text
from twinscale.common.files.kinds import STRICT, Backend, Count, Sha256, version
from twinscale.common.files.output import Kind, check_within, names_in, same, sweep
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import INDEX, STATE, STATE_MARKER, RunFiles, StateFiles
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.adapt import Adapt
from twinscale.common.recipe.file import dumps, load
from twinscale.common.recipe.running import Devices
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.checkpoints import Checkpoints, sha256
from twinscale.common.training.room import Room
from twinscale.common.training.run import Data, RunInfo, follow_run, read_run, what_differs
from twinscale.common.training.run_metrics import read_metrics
from twinscale.common.training.session import open_session

if TYPE_CHECKING:
    import numpy as np

    from twinscale.common.data.kept import Kept

SCHEMA_VERSION = 1
KIND = Kind(STATE_MARKER, INDEX, STATE)


class Index(TypedDict):
    """index.json."""

    __pydantic_config__ = STRICT

    schema_version: version(SCHEMA_VERSION)
    step: Count
    backend: Backend
    data: NotRequired[Data]
    meaning: str
    sha256: Sha256


def write(path: Path, recipe: Recipe, run: Any, step: int, tensors: "dict[str, np.ndarray]") -> None:
    """Writes the state of a run after `step` updates, {name: NumPy array}, the lines of metrics up to it, and what the
    run keeps of its data, into a directory."""
    path, kept = place(path), kept_in(run.path, run.info["data"])
    check_target(path, recipe, run)
    write_json(path / KIND.marker, identity(run))
    sweep(path, STATE)
    save_tensors(StateFiles(path).tensors, tensors)
    write_text(StateFiles(path).recipe, dumps(recipe))
    write_text(StateFiles(path).metrics, "".join(json.dumps(line) + "\n" for line in read_metrics(run.path)
                                                if line["step"] < step))
    if kept:
        keep_kept(path, kept)
    write_result(StateFiles(path).index, Index, {
        "schema_version": SCHEMA_VERSION, "step": step, "seed": recipe.seed, "backend": run.info["backend"],
        "data": run.info["data"], "meaning": recipe.meaning, "sha256": sha256(StateFiles(path).tensors),
        "tensors": {name: {"shape": list(x.shape), "dtype": str(x.dtype)} for name, x in sorted(tensors.items())}})


def identity(run: Any) -> dict[str, Any]:
    """What the marker of a run's state says: a run that is copied or moved stays the same."""
    return {"run": run.info.get("id") or f"{run.info.get('started')} {run.info['recipe_hash']}"}


def check_target(path: Path, recipe: Recipe, run: Any) -> None:
    """Raises BadInput where a directory holds anything but an earlier state of the same run."""
    if path.exists() and not path.is_dir():
        raise BadInput(f"--to {shown(path)}: a file, but a directory is wanted")
    if names_in(path, KIND) and not same(path, KIND, identity(run)) and not unmarked(path, recipe, run):
        raise BadInput(f"--to {shown(path)}: not empty, and no earlier state of run {shown(run.path)}; choose another "
                       "directory")
    check_within(path, STATE)


def unmarked(path: Path, recipe: Recipe, run: Any) -> bool:
    """Whether a directory holds a state as versions before the marker have left it, of a run like this one."""
    if (path / KIND.marker).exists() or not StateFiles(path).index.is_file():
        return False
    with suppress(BadInput):
        index = read_json(StateFiles(path).index, dict)
        said = [index.get(key) for key in ("backend", "seed", "meaning")]
        return said == [run.info["backend"], recipe.seed, recipe.meaning]
    return False


def read(path: Path, recipe: Recipe) -> dict[str, Any]:
    """{"step", "tensors", "origin", "metrics", "kept"} of such a directory, for a training of `recipe` to go on from.

    Raises BadInput where it is not whole, or of a training that computes something else.
    """
    path = place(path)
    index = read_index(path)
    step, said = index["step"], index["sha256"]
    if index["meaning"] != recipe.meaning:
        raise BadInput(f"{path}: of another training ({what_differs(path, recipe)}): take its recipe.toml")
    if step > recipe.train.steps:
        raise BadInput(f"{path}: index.json says step {step}, but train.steps={recipe.train.steps}")
    try:
        found = sha256(StateFiles(path).tensors)
    except OSError as error:
        raise BadInput(f"{StateFiles(path).tensors}: cannot be read: {error.strerror}") from None
    if found != said:
        raise BadInput(f"{StateFiles(path).tensors}: its content is not what index.json says; convert it again")
    metrics = StateFiles(path).metrics
    read_metrics(path)  # which raises where a training could not go on with them
    origin = {"path": str(path), "backend": index.get("backend"), "step": step, "sha256": said}
    return {"step": step, "tensors": load_tensors(StateFiles(path).tensors), "origin": origin,
            "kept": kept_in(path, index.get("data")),
            "metrics": read_bytes(metrics) if metrics.exists() else b""}


def kept_of(path: Path) -> "Kept | None":
    """What a run, or such a directory, keeps of its data; None where it keeps nothing yet."""
    path = place(path)
    if StateFiles(path).index.exists():
        return kept_in(path, read_index(path).get("data"))
    return kept_in(path, read_run(path)["data"])


def read_index(path: Path) -> Any:
    """What the index.json of such a directory holds; raises BadInput where it does not say what it has to."""
    return read_json(StateFiles(path).index, Index, f"`twinscale convert RUN --to {shown(path)}` makes a whole state")


@contextmanager
def named(folder: Path, path: Path) -> Iterator[None]:
    """While open, what is wrong with a state that we have put into a folder of our own is said of the run that it is
    made of, by the path that was given: the folder is gone when it is read of. What the disk lacks stays said of the
    folder, where room is wanted."""
    try:
        yield
    except BadInput as error:
        raise BadInput(str(error).replace(str(folder), shown(path))) from None


@contextmanager
def state_of(path: Path | str) -> Iterator[Path]:
    """The directory of such a state while open: `path` itself, or what a process makes of the run there, in a place of
    its own, as the run may be another's to write. What is wrong with it is said of `path`.

    Raises BadInput where neither is there.
    """
    path = place(path)
    if StateFiles(path).index.exists():
        yield path
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="twinscale-"))
        state = Path(folder) / "state"
        stack.enter_context(named(state, path))
        made = process.run(process.helper("twinscale.common.cli", "convert", path, "--to", state), encoding="utf-8",
                           errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, env={**os.environ, **process.QUIET})
        if made.returncode:
            said = [line.removeprefix("twinscale: ") for line in made.stderr.splitlines() if line.strip()]
            raise error_of(made.returncode, f"{path}: no state could be read there: {(said or ['without a word'])[-1]}")
        yield state


@contextmanager
def converted(room: Room, path: Path) -> Iterator[Path]:
    """`state_of`, made here where the run is of this room's backend."""
    if StateFiles(path).index.exists() or read_run(path, RunInfo)["backend"] != room.backend:
        with state_of(path) as made:
            yield made
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twinscale-"))) / "state"
        stack.enter_context(named(folder, path))
        convert(room, load(StateFiles(path).recipe, []), follow_run(path), folder)
        yield folder


def model_of(path: Path) -> "tuple[Recipe, dict[str, np.ndarray]]":
    """(recipe, {canonical name: array}) of the model that a run of either backend, or such a directory, holds."""
    with state_of(path) as state:
        recipe = load(StateFiles(state).recipe, [])
        tensors = shipped(recipe, load_tensors(StateFiles(state).tensors))
        return recipe.with_values(adapt=Adapt()), tensors


def shipped(recipe: Recipe, tensors: "dict[str, np.ndarray]") -> "dict[str, np.ndarray]":
    """{canonical name: array} of the model alone in the tensors of a state: averaged weights where there are any, and
    of a compression's stage what it has left, of one with adapters its kernels with their products."""
    if recipe.compress.stages:
        return stripped(recipe, tensors)
    averaged = {name.replace("ema/", "weights/", 1): x for name, x in tensors.items() if name.startswith("ema/")}
    return merged(recipe, {name.removeprefix("weights/"): x for name, x in (tensors | averaged).items()
                           if name.startswith("weights/")})


def copy_metrics(begun: Mapping[str, Any], run: Any) -> None:
    """Lets a run's metrics begin with those of the run that it goes on from."""
    if run.writes and not RunFiles(run.path).metrics.exists():
        write_bytes(RunFiles(run.path).metrics, begun["metrics"])


def convert(room: Room, recipe: Recipe, run: Any, path: Path, best: bool = False) -> int:
    """Writes the newest checkpoint of a run of this backend into a directory, or the `best` by what is watched; returns
    its step.

    Raises BadInput where the run has none, or where `check_target` does.
    """
    check_target(place(path), recipe, run)
    one = recipe.model_copy(update={"devices": Devices(strategy="one")})
    room = room.compressing if recipe.compress.stages else room
    with room.numerics(one):
        kept = kept_in(run.path, run.info["data"])
        session = open_session(room, one, dataset=open_kept(one, kept, accept=True))  # whose shapes alone are of use
        checkpoints = Checkpoints(run, room, one, session.state, session.devices)
        try:
            state = checkpoints.best(session.state) if best else checkpoints.restore(session.state)
        finally:
            checkpoints.close()
        step = int(state.step)
        if not step:
            raise BadInput(f"run {run.path}: has no checkpoint yet; train it with train.save_every")
        write(path, recipe, run, step, room.state_tensors(state))
    return step
