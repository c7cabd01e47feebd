"""The run directory: who may write it, what it always holds, and files that are whole or absent.

    recipe.toml  run.json  metrics.jsonl  events.*  data/  hosts/  checkpoints/  trace/  export/

`common/files/run_files.py` has every name; what has another is not of the run, and stays whatever is done to it.

`run.json`: schema_version, id, backend, recipe_name, recipe_hash, state ("running" | "finished" | "failed" |
"interrupted" | "stopped"), starts, started and ended (UTC), versions, devices, data (the source's manifest), seconds (a
dict of durations over all starts), kept (the seconds up to the last checkpoint), saved (its step), goodput, final
(metrics), and error where the state is "failed".
A path with "://" goes through etils.epath: there is no lock, and metrics.jsonl is rewritten at every logged step.
"""

import fcntl
import os
import re
import secrets
import stat
import tomllib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Self

from pydantic import Field
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, Stopped
from twinscale.common.files.access import (
    HALF,
    exists,
    is_odd,
    local,
    place,
    read_json,
    read_toml,
    shown,
    write_json,
    write_text,
)
from twinscale.common.files.kinds import STRICT, Backend, Count, Metrics, Number, Seconds, Standardised, version
from twinscale.common.files.output import check_within, remove_ours, sweep
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import INFO, LOCK, RUN, RunFiles
from twinscale.common.machine.doctor import versions
from twinscale.common.recipe.file import differences, dumps

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

SCHEMA_VERSION = 1


# ---- what is in its files

class Tokenizer(TypedDict):
    """Of a manifest of text."""

    __pydantic_config__ = STRICT

    kind: str
    sha256: str


class Data(TypedDict):
    """The manifest of a source."""

    __pydantic_config__ = STRICT

    source: NotRequired[str]
    sha256: NotRequired[str]
    tokenizer: NotRequired[Tokenizer]
    standardise: NotRequired[Standardised]


class Kept(TypedDict):
    """What had been spent when the last checkpoint was committed."""

    __pydantic_config__ = STRICT

    seconds: dict[str, Seconds]
    elapsed: Seconds


class Origin(TypedDict):
    """The state that a run began from."""

    __pydantic_config__ = STRICT

    path: str
    backend: NotRequired[str | None]
    step: NotRequired[Count]
    sha256: NotRequired[str]


class Performance(TypedDict):
    """Null is what could not be measured."""

    __pydantic_config__ = STRICT

    step_ms_median: Number | None
    step_ms: NotRequired[list[Number | None]]
    step_ms_interval: NotRequired[Annotated[list[Number | None], Field(min_length=2, max_length=2)]]
    round_steps: NotRequired[Count]  # what a comparison measures in turns follows
    bare_step_ms: NotRequired[list[Number | None]]
    bare_step_ms_median: NotRequired[Number | None]
    loop_overhead_percent: NotRequired[Number | None]
    loop_overhead_percent_interval: NotRequired[list[Number | None]]
    data_ratio: NotRequired[Number | None]
    data_ratio_interval: NotRequired[list[Number | None]]
    throughput: NotRequired[Number | None]
    unit: NotRequired[str]
    mfu: NotRequired[Number | None]
    mfu_convention: NotRequired[str | None]  # null where there is no MFU
    compile_seconds: NotRequired[Seconds]
    seconds: NotRequired[dict[str, Seconds]]
    goodput_percent: NotRequired[Number]


class Early(TypedDict):
    """Why a training ended before its last step."""

    __pydantic_config__ = STRICT

    step: Count
    watch: str
    best: Number | None
    best_step: Count | None
    evaluations: Count


class RunInfo(TypedDict):
    """run.json, as far as anything is read of it that may be another version's."""

    __pydantic_config__ = STRICT

    schema_version: version(SCHEMA_VERSION)
    backend: Backend
    recipe_hash: str
    state: Literal["running", "finished", "failed", "interrupted", "stopped"]
    starts: Count
    id: NotRequired[str]
    recipe_name: NotRequired[str]
    started: NotRequired[str]
    ended: NotRequired[str]
    removing: NotRequired[bool]
    error: NotRequired[str]
    versions: NotRequired[dict[str, str | None]]
    devices: NotRequired[list[str]]
    data: NotRequired[Data]
    data_before: NotRequired[list[Data]]
    seconds: NotRequired[dict[str, Seconds]]
    final: NotRequired[Metrics]
    sums: NotRequired[Metrics]
    trace: NotRequired[Literal["full", "sketch"] | None]
    kept: NotRequired[Kept | None]
    elapsed: NotRequired[Seconds | None]
    saved: NotRequired[Count | None]
    origin: NotRequired[Origin | None]
    hosts_agree: NotRequired[bool | None]
    goodput: NotRequired[dict[str, Number | None]]
    performance: NotRequired[Performance]
    early: NotRequired[Early]


class OpenedRun(RunInfo):
    """A run.json to go on with."""

    versions: dict[str, str | None]
    devices: list[str]
    data: Data
    seconds: dict[str, Seconds]
    final: Metrics


class FinishedRun(OpenedRun):
    """Of a run that was trained to its end, and is compared."""

    devices: Annotated[list[str], Field(min_length=1)]
    performance: Performance


# ---- open, update, close

class Run:
    """An open run: `path`, `info` (what `run.json` holds), `resumed`, and `ending`, the state that work which went well
    ends in. As a context it records how the work ended. Of many hosts one holds the lock and writes."""

    def __init__(self, path: Path, info: Any, resumed: bool, lock: Any, writes: bool = True) -> None:
        self.path, self.info, self.resumed, self._lock, self.writes = path, info, resumed, lock, writes
        self.ending = "finished"

    def update(self, **values: Any) -> None:
        """Writes values into `run.json`; dicts (seconds, final, data) are merged key by key. Raises pydantic's
        ValidationError where nobody could read it back."""
        for key, value in values.items():
            old = self.info.get(key)
            self.info[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        if self.writes:
            write_result(RunFiles(self.path).info, OpenedRun, self.info)

    def write_json(self, path: Path, value: Any) -> None:
        """`write_json` of a file in the run, on the host that writes."""
        if self.writes:
            write_json(path, value)

    def close(self, state: str, **values: Any) -> None:
        """Records the state ("finished" | "failed" | "interrupted" | "stopped") and lets other processes in."""
        try:
            self.update(state=state, ended=_now(), **values)
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if kind is None:
            self.close(self.ending)
            return
        with suppress(OSError):  # of a full disk: what went wrong first is what is said
            if issubclass(kind, KeyboardInterrupt):
                self.close("interrupted")
            elif issubclass(kind, Stopped):
                self.close("stopped")
            else:
                self.close("failed", error=f"{kind.__name__}: {error}".splitlines()[0])


def open_run(path: Path, recipe: "Recipe", backend: str, *, overwrite: bool = False, resume: bool = True,
             trace: Any = None) -> Run:
    """Makes or resumes the Run in directory `path` and locks it; of many hosts only the first may. With `overwrite` the
    run that was there is removed first; `trace` is noted in `run.json` of a new one.

    Raises BadInput where `check_run` does, or if a living process holds it.
    """
    path = place(path)
    check_run(path, recipe, backend, overwrite=overwrite, resume=resume)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path) if local(path) else None
    except OSError as error:
        raise BadInput(f"run {path}: cannot be made: {error.strerror}") from None
    try:
        old = check_run(path, recipe, backend, overwrite=overwrite, resume=resume)  # nobody else can change it now
        if old and overwrite:
            _clear(path, old)
            old = None
        sweep(path, RUN)
        info = old or {"schema_version": SCHEMA_VERSION, "id": secrets.token_hex(16), "backend": backend,
                       "recipe_name": recipe.name, "recipe_hash": recipe.hash, "state": "running", "starts": 0,
                       "started": _now(), "versions": {}, "devices": [], "data": {}, "seconds": {}, "final": {},
                       "trace": trace}
        for key in ("ended", "error"):
            info.pop(key, None)
        run = Run(path, info, bool(old), lock)
        run.update(state="running", starts=info["starts"] + 1, versions=versions())
        write_text(RunFiles(path).recipe, dumps(recipe))
    except BaseException:
        if lock is not None:
            os.close(lock)
        raise
    return run


def follow_run(path: Path | str) -> Run:
    """The Run that another host has opened and writes."""
    path = place(path)
    info = read_run(path)
    return Run(path, info, info["starts"] > 1, None, writes=False)


def check_run(path: Path, recipe: "Recipe", backend: str, *, overwrite: bool = False, resume: bool = True) -> Any:
    """What `run.json` of an existing run holds, or None; writes nothing. Raises BadInput if the directory is no run,
    or, unless `overwrite`, holds a finished run, one of another recipe or backend, or one that `resume` forbids."""
    path = place(path)
    if recipe.devices.hosts != 1 and is_odd(path):
        raise BadInput(f"run {shown(path)}: several hosts cannot write below a path that has one of []*?\\ or is not "
                       "UTF-8; choose another directory")
    try:
        if path.exists() and not path.is_dir():
            raise BadInput(f"run {path}: a file, but a run is a directory")
        names = [entry.name for entry in path.iterdir()] if path.exists() else []
    except OSError as error:
        raise BadInput(f"run {path}: cannot be read: {error.strerror}") from None
    if not any(_counts(name) for name in names):
        return None
    old = read_run(path)
    check_within(path, RUN, links=overwrite)
    if overwrite:
        return old
    if old.get("removing"):
        raise BadInput(f"run {path}: its removal was cut short; pass --overwrite to complete it")
    if old["backend"] != backend:
        raise BadInput(f"run {path}: made by backend {old['backend']}, not {backend}; choose another directory")
    if old["recipe_hash"] != recipe.hash:
        raise BadInput(f"run {path}: made from another recipe ({what_differs(path, recipe)}); "
                       "choose another directory or pass --overwrite")
    if old["state"] == "finished":
        raise BadInput(f"run {path}: holds a finished run; choose another directory or pass --overwrite")
    if not resume:
        raise BadInput(f"run {path}: holds an unfinished run; resume it, or pass --overwrite")
    return old


def read_run(path: Path, kind: Any = OpenedRun) -> Any:
    """What `run.json` holds; raises BadInput if the directory is no run, or its `run.json` not of a kind."""
    path = place(path)
    if not exists(RunFiles(path).info):
        raise BadInput(f"run {shown(path)}: not a run (there is no run.json)")
    return read_json(RunFiles(path).info, kind, "restore the file, or take the directory away by hand")


def _counts(name):
    """Whether a file makes a directory non-empty: the lock and what a crash left of the first write do not."""
    half = HALF.fullmatch(name)
    return name != LOCK and not (half and half["name"] == INFO)


def _lock(path):
    """An open file descriptor that holds the directory until it is closed or the process dies."""
    try:
        lock = os.open(RunFiles(path).lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise BadInput(f"run {path}: .lock cannot be opened, or is a link: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(lock).st_mode) or not re.fullmatch(rb"\d*\n?", os.read(lock, 32)):
        os.close(lock)
        raise BadInput(f"run {path}: its .lock is another program's; choose another directory")
    os.lseek(lock, 0, os.SEEK_SET)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise BadInput(f"run {path}: process {owner or '?'} is writing it; wait, or choose another directory") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _clear(path, old):
    """Removes a run from its directory. `run.json` goes last and says so first, so that a crash in between stays
    visible."""
    write_result(RunFiles(path).info, OpenedRun, {**old, "state": "failed", "removing": True})
    remove_ours(path, {name: inside for name, inside in RUN.items() if name != re.escape(LOCK)}, last=INFO)


def what_differs(path: Path, recipe: "Recipe") -> str:
    """Up to five differences of the recipe in a directory from this one, in words."""
    with suppress(BadInput):
        lines = differences(read_toml(RunFiles(path).recipe, dict), tomllib.loads(dumps(recipe)))
        return ", ".join(lines[:5]) + f" and {len(lines) - 5} more" * (len(lines) > 5)
    return "its recipe.toml cannot be read"


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")
