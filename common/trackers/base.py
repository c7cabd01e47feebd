"""What is known of a tracker, and how a training is logged to some: in a thread of its own, in which they are opened
too, so that no step waits for a database or a network. A tracker that fails is left out; the training goes on.

Their packages are imported before the thread begins: two threads that import what imports itself in a ring find half of
it, and the training's own imports might be the ones that fail.
"""

import math
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import BadInput, Stopped, first_line, need, one_of
from twinscale.common.files.access import escaped_lines, local, place, shown
from twinscale.common.files.run_files import TRACKERS as FOLDER

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.run import Run

TRACKERS = {name: f"twinscale.common.trackers.{name}_runs:{name.upper()}"
            for name in ("tensorboard", "wandb", "mlflow")}
PATIENCE = 120.0  # seconds that the end of a training waits for what is still to be logged


@dataclass(frozen=True)
class Subject:
    """What is tracked: a training, or the verdict of a comparison."""

    project: str  # what groups runs: the recipe's name
    name: str  # of this run, for people
    id: str  # of this run, hexadecimal: what goes on with a run has its id
    folder: Path  # where a tracker may write
    toml: str  # the whole recipe
    settings: Mapping[str, Any]  # the same by dotted keys, each a text or a number
    tags: tuple[str, ...] = ()
    start: int = 0  # the first step that is going to be logged


@dataclass(frozen=True)
class Handle:
    """An open run of a tracker."""

    log: Callable[[int, Mapping[str, float]], Any]  # (step, {name: value}), values may be NaN
    keep: Callable[[list[Path]], Any]  # files that are kept with the run
    end: Callable[[str, Mapping[str, float]], Any]  # ("finished" | "stopped" | "failed", the last values by name)


@dataclass(frozen=True)
class Tracker:
    """A tracker: what it is called, the modules that it needs, and what opens a run of it."""

    title: str
    needs: tuple[str, ...]
    open: Callable[[Subject], Handle]
    loads: tuple[str, ...] = ()  # modules that it is going to import


def tracker_of(name: str) -> Tracker:
    """A tracker by its name in a recipe."""
    module, _, found = one_of(TRACKERS, name, "train.trackers").partition(":")
    return getattr(import_module(module), found)


def check_trackers(recipe: "Recipe", path: Path | str) -> None:
    """Raises MissingEnvironment where the package of one of `train.trackers` is not installed, BadInput where they
    cannot write into the directory `path`, as it is in a bucket."""
    for name in recipe.train.trackers:
        need(*tracker_of(name).needs, why=f'train.trackers has "{name}"')
    if recipe.train.trackers and not local(place(path)):
        raise BadInput(f"train.trackers = {list(recipe.train.trackers)}: they write beside the run, and {shown(path)} "
                       "is no directory of this machine; leave them out, or take another directory")


@contextmanager
def following(recipe: "Recipe", run: "Run", start: int, tracked: bool = True) -> Iterator[Callable[..., None] | None]:
    """Yields `log(step, metrics)`, which returns at once, of a training in an open run; None where a recipe has no
    trackers, this host does not write, or it is not to be `tracked`. A run that goes on is the same in a tracker."""
    if not (recipe.train.trackers and run.writes and tracked):
        yield None
        return
    backend = run.info["backend"]
    subject = Subject(recipe.name, f"{backend} {run.path.name}", run.info["id"], run.path / FOLDER,
                      *described(recipe), (backend, recipe.train.precision, f"seed {recipe.seed}"), start)
    with _logged(recipe.train.trackers, subject) as lines:
        yield lambda step, metrics: lines.put((step, dict(metrics)))


def log_verdict(recipe: "Recipe", out: Path, figures: Mapping[str, float], files: list[Path]) -> None:
    """Logs a verdict as a run of its own to the trackers of a recipe: its figures, and its files as artefacts."""
    if not recipe.train.trackers:
        return
    subject = Subject(recipe.name, f"verdict {out.name}", secrets.token_hex(16), out / FOLDER, *described(recipe),
                      ("verdict", recipe.train.precision))
    with _logged(recipe.train.trackers, subject) as lines:
        lines.put((0, dict(figures)))
        lines.put([file for file in files if file.is_file()])


def described(recipe: "Recipe") -> tuple[str, dict[str, Any]]:
    """(a recipe as TOML, its values by dotted keys and those of its hash): numbers, truth values and texts."""
    from twinscale.common.files.access import dotted
    from twinscale.common.recipe.file import dumps, flat

    found = {dotted(key): value if isinstance(value, bool | int | float | str) else str(value)
             for key, value in flat(recipe.model_dump(mode="json")).items()}
    return dumps(recipe), found | {"hash": recipe.hash}


@contextmanager
def _logged(names: tuple[str, ...], subject: Subject) -> Iterator["queue.SimpleQueue[Any]"]:
    """The queue of what is to be logged, which a thread empties: (step, metrics), or a list of files."""
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for name in dict.fromkeys(names):
        for module in tracker_of(name).loads:
            _guarded({}, name, import_module, module)
    thread = threading.Thread(target=_work, args=(names, subject, lines), name="trackers", daemon=True)
    thread.start()
    try:
        yield lines
    except BaseException as error:
        lines.put("stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed")
        raise
    else:
        lines.put("finished")
    finally:
        thread.join(PATIENCE)
        if thread.is_alive():
            _say(", ".join(names), f"not everything is logged after {PATIENCE:.0f} s; the rest is left out")


def _work(names, subject, lines):
    handles, last = {}, {}

    def opened(name):
        handles[name] = tracker_of(name).open(subject)

    def each(function, *arguments):
        for name in list(handles):
            _guarded(handles, name, getattr(handles[name], function), *arguments)

    for name in dict.fromkeys(names):
        _guarded(handles, name, opened, name)
    while not isinstance(line := lines.get(), str):
        if isinstance(line, list):
            each("keep", line)
        else:
            metrics = {key: math.nan if value is None else value for key, value in line[1].items()}
            last |= metrics
            each("log", line[0], metrics)
    each("end", line, last)


def _guarded(handles, name, action, *arguments):
    """Does something of a tracker, and lets it go once it fails."""
    try:
        action(*arguments)
    except Exception as error:  # of others' code, over a network
        handles.pop(name, None)
        _say(name, f"{type(error).__name__}: {first_line(error, 200)}; logged to it no further, the training goes on")


def _say(name, text):
    print(f"twinscale: train.trackers: {name}: {escaped_lines(text)}", file=sys.stderr, flush=True)
