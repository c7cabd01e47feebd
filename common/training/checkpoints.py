"""A run's checkpoints: which are whole, which are kept, which to go on from. What is in them is a backend's own format.

    checkpoints/step_N...                 the backend's files, by its `Store`
    checkpoints/manifests/step_N.json     written last: what has none is no checkpoint

A manifest holds schema_version, step (which is the position in the data), seed (of which all random bits are made),
backend, meaning (`Recipe.meaning`), held_out (what `train.watch` says, at this step, or null), files: {path: {bytes,
sha256}} and count, of the files. A checkpoint is taken only if every file is there as the manifest says.
"""

import hashlib
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired

from typing_extensions import TypedDict

from twinscale.common.errors import (
    BadInput,
    CannotSave,
    MissingEnvironment,
    NoCheckpoint,
    first_line,
    is_memory,
    known,
    no_writing,
)
from twinscale.common.files.access import (
    check_regular,
    escaped_lines,
    is_link,
    is_odd,
    local,
    read_json,
    remove,
    shown,
)
from twinscale.common.files.kinds import STRICT, Backend, Count, Number, version
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RunFiles
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.room import Room
from twinscale.common.training.stopping import ranked

SCHEMA_VERSION = 1
NONE, MOST = -1, 32  # no step; steps of which hosts tell each other


class File(TypedDict):
    """What a manifest says of a file."""

    __pydantic_config__ = STRICT

    bytes: Count
    sha256: str


class Manifest(TypedDict):
    """A manifest."""

    __pydantic_config__ = STRICT

    schema_version: version(SCHEMA_VERSION)
    step: Count
    seed: int
    backend: Backend
    meaning: str
    held_out: Number | None
    files: dict[str, File]
    count: NotRequired[Count]  # of files; manifests of earlier versions have none


class Checkpoints:
    """The checkpoints of one run, seen from one of its hosts. Saves go on in the background; what goes wrong with one
    is raised by `poll` or the next save."""

    def __init__(self, run: Any, room: Room, recipe: Recipe, state: Any, devices: Any) -> None:
        self.run, self.room, self.recipe, self.devices = run, room, recipe, devices
        self.files = RunFiles(run.path.resolve() if local(run.path) else run.path)
        self.path = self.files.checkpoints
        if self.listed() or run.info.get("saved") is None:  # else all manifests are lost: the rest may be of use
            self.sweep()
        room.agree(devices, [0])
        self.inner, self.held = inner(self.path)  # the store's name for its path
        self.store = room.Store(self.inner, state, devices)
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Any = None  # (step, what goes into the manifest, future)
        self.committing: Any = None  # as well
        self.saved, self.failed = time.monotonic(), False

    # ---- going on

    def restore(self, state: Any) -> Any:
        """The state of the newest whole checkpoint that all hosts have, or the state as given where none was saved.

        Raises NoCheckpoint where some were saved and none is whole.
        """
        listed, bad = set(self.listed()), set()
        while (step := self.common(listed - bad)) != NONE:
            problem = self.problem(step)
            if self.room.agree(self.devices, [problem is None]).all():
                loaded, problem = self.loaded(step, state)
                if problem is None:
                    self.unlist_after(step)
                    self.run.update(saved=step)  # a kill may have come between the commit and this
                    return loaded
            bad.add(step)
            if problem:  # said by the host that found it
                said = f"checkpoint of step {step} is not whole ({problem}): trying the one before"
                print(f"twinscale: {escaped_lines(said)}", file=sys.stderr, flush=True)
        if self.room.agree(self.devices, [bool(listed) or self.run.info.get("saved") is not None]).any():
            raise NoCheckpoint(f"run {self.run.path}: checkpoints were saved, the last after step "
                               f"{self.run.info.get('saved')}, and none is whole; pass --overwrite to start anew")
        return state

    def best(self, state: Any) -> Any:
        """The state of the whole checkpoint at which what is watched was best; what is newer stays. Raises NoCheckpoint
        where none was measured."""
        for step in ranked(self.recipe, {step: self.held_out(step) for step in self.listed()}):
            if self.problem(step) is None:
                loaded, problem = self.loaded(step, state)
                if problem is None:
                    return loaded
        raise NoCheckpoint(f"run {self.run.path}: no whole checkpoint was evaluated at its step: let train.save_every "
                           "be a multiple of train.eval_every, with train.keep_best")

    def loaded(self, step: int, state: Any) -> tuple[Any, str | None]:
        """(the state of a step, None), or (None, what is wrong with its files, though they are as they were saved).
        Several hosts read together, and end together."""
        try:
            return self.store.read(step, state), None
        except (BadInput, MemoryError):
            raise
        except Exception as error:  # whatever the format's library says of files that are none of its own
            if self.devices.hosts > 1:
                raise
            said = (str(error).strip().splitlines() or [""])[0]
            return None, shown(f"cannot be loaded ({type(error).__name__}: {said})")

    def unlist_after(self, step: int) -> None:
        """Removes later checkpoints, which are not whole everywhere: they are going to be made again."""
        for later in [later for later in self.listed() if later > step] if self.run.writes else []:
            self.files.manifest(later).unlink()
            self.store.delete(later)
        self.room.agree(self.devices, [step])

    def common(self, steps: Iterable[int]) -> int:
        """The greatest step that every host has among its `steps`, or NONE."""
        mine = sorted(steps)[-MOST:]
        seen = self.room.agree(self.devices, [NONE] * (MOST - len(mine)) + mine)
        both = set.intersection(*(set(row.tolist()) for row in seen)) - {NONE}
        newest = int(seen.max())
        if newest not in both and newest != NONE:
            self.say(f"not every host has the checkpoint of step {newest}")
        return max(both, default=NONE)

    def listed(self) -> list[int]:
        """The steps that have a manifest, in order."""
        return self.files.listed()

    def problem(self, step: int) -> str | None:
        """What is wrong with a checkpoint, or None. Of many hosts each hashes its share of the files."""
        try:
            manifest = read_json(self.files.manifest(step), Manifest)
        except BadInput as error:
            return str(error)
        files = sorted((name, said["bytes"], said["sha256"]) for name, said in manifest["files"].items())
        if manifest["step"] != step or not files:
            return f"{self.files.manifest(step)}: not of this step"
        if manifest["backend"] != self.room.backend:
            return f"{self.files.manifest(step)}: of the backend {manifest['backend']}"
        if (manifest["meaning"], manifest["seed"]) != (self.recipe.meaning, self.recipe.seed):
            return f"{self.files.manifest(step)}: of another recipe"
        if unlisted := unlisted_in(self.store.files(step), self.inner, manifest):
            return f"{self.files.manifest(step)}: does not list {unlisted}"
        for number, (name, length, content) in enumerate(files):
            file = self.path / name
            if not is_below(name) or not file.is_file() or has_link(file, self.path):
                return f"{file}: missing, or no regular file of this run"
            if size(file) != length:
                return f"{file}: {size(file)} bytes instead of {length}"
            if number % self.devices.hosts == self.devices.host and sha256(file) != content:
                return f"{file}: its content is not what was saved"
        return None

    # ---- saving

    def save(self, step: int, state: Any, held_out: float | None = None, kept: Any = None) -> None:
        """Begins to save a state under its step, once the save before is through. `kept` is what run.json is to say of
        the time until here, once it is committed."""
        self.settle()
        self.saved = time.monotonic()
        if self.room.agree(self.devices, [step in self.listed()]).all():
            return
        try:
            self.store.write(step, state)
        except Exception as error:
            raise self.cannot(step, error) from error
        self.writing = step, (held_out, kept), self.thread.submit(self.store.wait)

    def overdue(self) -> bool:
        """Whether a checkpoint is to be saved by the clock; only the first host's counts."""
        minutes = self.recipe.train.save_minutes
        return self.devices.host == 0 and bool(minutes) and time.monotonic() - self.saved > 60 * minutes

    @property
    def written(self) -> bool:
        """Whether this host's part of the last save is on disk, and not known to be on every host's."""
        return self.writing is not None and self.writing[2].done()

    def poll(self, hosts_written: int) -> None:
        """Raises what went wrong in the background, and commits once all hosts have written."""
        if self.written:
            self.finished(self.writing)
            if hosts_written == self.devices.hosts:
                self.commit()
        if self.committing and self.committing[2].done():
            self.noted()

    def settle(self) -> None:
        """Waits until what was begun is committed."""
        if self.writing:
            self.finished(self.writing)
            self.room.agree(self.devices, [self.writing[0]])
            self.commit()
        self.noted()

    def commit(self) -> None:
        """Begins to write the manifest, now that every host has written its part."""
        step, (held_out, kept), _ = self.writing
        self.writing = None
        if self.run.writes:
            self.committing = step, kept, self.thread.submit(self.write_manifest, step, held_out)

    def write_manifest(self, step: int, held_out: float | None) -> None:
        """The commit itself, and then retention."""
        files = {}
        for file in self.store.files(step):
            sync(file)
            files[file.relative_to(self.inner).as_posix()] = {"bytes": size(file), "sha256": sha256(file)}
        if not files:
            raise OSError(f"nothing of step {step} is there")
        write_result(self.files.manifest(step), Manifest, {
            "schema_version": SCHEMA_VERSION, "step": step, "seed": self.recipe.seed, "backend": self.room.backend,
            "meaning": self.recipe.meaning, "held_out": held_out, "files": files,
            "count": len(files)})
        self.retain()

    def retain(self) -> None:
        """Removes the checkpoints that are not to be kept."""
        for old in self.expendable():
            self.files.manifest(old).unlink()  # from here on it is no checkpoint
            self.store.delete(old)

    def noted(self) -> None:
        """Waits for the commit, and says in run.json that it is there."""
        if self.committing:
            self.finished(self.committing)
            (step, kept, _), self.committing = self.committing, None
            self.run.update(saved=step, **({"kept": kept} if kept else {}))

    def expendable(self) -> list[int]:
        """Listed steps that are neither among the newest nor among the best."""
        steps = self.listed()
        losses = {step: self.held_out(step) for step in steps}
        measured = ranked(self.recipe, losses)
        kept = {*steps[-self.recipe.train.keep:], *measured[:self.recipe.train.keep_best]}
        return [step for step in steps if step not in kept]

    def held_out(self, step: int) -> float:
        """What is watched, at a checkpoint, NaN where none was measured."""
        try:
            measured = read_json(self.files.manifest(step), Manifest)["held_out"]
        except BadInput:
            return math.nan
        return math.nan if measured is None else measured

    def sweep(self) -> None:
        """Removes what a kill left of saves that were never committed, before the backend looks at its directory."""
        if self.run.writes and self.path.is_dir():
            known = set(self.listed())
            for entry in list(self.path.iterdir()):
                step = re.fullmatch(self.room.Store.NAMES, entry.name)
                if step and int(next(filter(None, step.groups()))) not in known:
                    remove(entry)

    def finished(self, begun: Any) -> Any:
        try:
            begun[2].result()
        except Exception as error:
            self.writing = self.committing = None
            raise self.cannot(begun[0], error) from error

    def cannot(self, step: int, error: BaseException) -> Any:
        self.failed = True
        if self.devices.hosts > 1 and self.room.is_lost(error):  # which is no matter of saving
            return error
        last = max(self.listed(), default=None)
        before = "there is none before" if last is None else f"the one before, of step {last}, is there"
        if is_memory(error) and not no_writing(error):
            return MissingEnvironment(f"{known(error)}; the checkpoint of step {step} could not be saved; {before}")
        why, helps = no_writing(error) or (f"{type(error).__name__}: {first_line(error)}", "make room")
        return CannotSave(f"{self.path}: the checkpoint of step {step} could not be saved ({why}); {before}: {helps}, "
                          "then run the same command again")

    def say(self, text: str) -> None:
        if self.devices.host == 0:
            print(f"twinscale: {escaped_lines(text)}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the threads; on one host what was begun is committed first. After an error several do not wait for each
        other: one may be gone."""
        if self.devices.hosts > 1 and self.writing:
            self.thread.shutdown(wait=False, cancel_futures=True)
            return
        try:
            self.settle()
            if self.run.writes and not self.failed:
                self.retain()  # what a kill has kept it from before
        finally:
            self.thread.shutdown(cancel_futures=True)
            with suppress(Exception) if self.failed else nullcontext():  # the same failure may come again
                self.store.close()
            if self.held is not None:
                os.close(self.held)
                self.held = None


def inner(path: Path) -> tuple[Path, int | None]:
    """(a name of a local directory that every library reads as itself, the descriptor that it lives by or None)."""
    if not is_odd(path):
        return path, None
    path.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    name = Path(f"/proc/self/fd/{held}")
    if not name.exists():
        os.close(held)
        raise MissingEnvironment(f"{shown(path)}: has one of []*?\\ or is not UTF-8, and there is no /proc to name it "
                                 "otherwise; choose another directory")
    return name, held


def unlisted_in(files: Iterable[Path], root: Path, manifest: Mapping[str, Any]) -> str | None:
    """What a manifest leaves out of a checkpoint, in words, or None. Manifests of earlier versions have no count, and
    are held to what is there."""
    listed = manifest["files"].keys()
    if "count" in manifest:
        missing = manifest["count"] - len(listed)
        return f"{missing} of {manifest['count']} files" if missing > 0 else None
    return next((name for file in files if (name := file.relative_to(root).as_posix()) not in listed), None)


def is_below(name: str) -> bool:
    """Whether a path in a manifest can lead nowhere but below the manifest's directory."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def size(file: Any) -> int:
    """Bytes of a file."""
    found = file.stat()
    return found.st_size if local(file) else found.length  # as etils.epath calls it


def sha256(file: Path) -> str:
    """SHA-256 (hex) of a file."""
    check_regular(file)
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def sync(file: Path) -> None:
    """Sees to it that a local file and its name outlive a power cut."""
    for path in (file, file.parent) if local(file) else ():
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def has_link(file: Path, root: Path) -> bool:
    """Whether a file, or a directory on the way to it from `root`, is a symbolic link."""
    return any(is_link(part) for part in [file, *file.parents[:-len(root.parents) - 1]])
