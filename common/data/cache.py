"""Folders made once and read for ever: built aside, then renamed, so a killed or racing process leaves no half."""

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import at_home, read_json, shown
from twinscale.common.files.kinds import STRICT, Count, Sha256
from twinscale.common.files.output import tell

SEAL = "files.json"
HASHED = {}  # {path: what it was, and its hash, when this process last found that right}


def cache_dir() -> Path:
    """The cache's folder: TWINSCALE_CACHE, or twinscale in XDG_CACHE_HOME or ~/.cache. Raises MissingEnvironment where
    nobody has a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    given = os.environ.get("TWINSCALE_CACHE") or os.path.join(base if os.path.isabs(base) else "~/.cache", "twinscale")
    return at_home(given, "TWINSCALE_CACHE")


def key(*parts: Any) -> str:
    """32 hexadecimal digits that name JSON-able `parts`."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def stamp(paths: Iterable[str | Path]) -> list[list[Any]]:
    """[path, bytes, modified, changed] of each file: what may be asked of thousands of files in milliseconds. Who edits
    a file may set its time back (cp -p, rsync, touch -r), but not the one at which the kernel saw it change."""
    return [[str(Path(path).absolute()), (about := os.stat(path)).st_size, about.st_mtime_ns, about.st_ctime_ns]
            for path in paths]


class Sealed(TypedDict):
    """What a seal says of a file."""

    __pydantic_config__ = STRICT
    bytes: Count
    sha256: Sha256


def regular(folder: Path) -> dict[str, os.stat_result]:
    """{name: its stat} of what is in `folder`, its seal apart; ValueError where that is no regular file."""
    found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(folder) if entry.name != SEAL}
    for name, about in found.items():
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{shown(name)} is no regular file")
    return found


def sealed(folder: Path) -> dict[str, dict[str, int | str]]:
    """{name: its size and SHA-256} of the files in `folder`."""
    return {name: {"bytes": about.st_size, "sha256": sha256(folder / name)} for name, about in regular(folder).items()}


def sha256(path: Path) -> str:
    """In hex, of a file's bytes, which are read in pieces: a shard may be larger than memory. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(folder: Path) -> None:
    """Raises ValueError, OSError or BadInput, which say what it is, where `folder` is not what it was sealed as.

    A process hashes each file once, and again only if its size, times or place on the disk have changed.
    """
    seal, found = read_json(folder / SEAL, dict[str, Sealed]), regular(folder)
    for name in seal.keys() ^ found.keys():
        raise ValueError(f"{shown(name)} is {'missing' if name in seal else 'none of its files'}")
    due = {}
    for name, about in found.items():
        if about.st_size != seal[name]["bytes"]:
            raise ValueError(f"{shown(name)} has {about.st_size:,} bytes, not {seal[name]['bytes']:,}")
        mark = about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, seal[name]["sha256"]
        if HASHED.get(folder / name) != mark:
            due[name] = mark
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
        for name, have in zip(due, pool.map(sha256, [folder / name for name in due]), strict=True):
            if have != seal[name]["sha256"]:
                raise ValueError(f"the content of {shown(name)} has changed")
            HASHED[folder / name] = due[name]


def cached(name: str, build: Callable[[Path], Any], read: Callable[[Path], Any] = Path) -> Any:
    """`read(folder)` of the cache's folder `name`, which `build(folder)` fills unless it is there and whole.

    What is there and is not what was sealed, or that `read` refuses (ValueError, KeyError, BadInput), is made again,
    and a line on stderr says so. Of several processes that want it one builds it, and the others wait for it: none
    takes away what another has just made. Raises MissingEnvironment where the cache cannot be written.
    """
    folder = cache_dir() / name
    found, wrong = opened(folder, read)
    if not wrong:
        return found
    if os.path.lexists(folder):
        tell("cache", f"{shown(folder)} is broken ({shown(wrong)}): it is made again")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder), tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as aside:
            if opened(folder, read)[1]:
                made = Path(aside, name)
                made.mkdir()
                build(made)
                (made / SEAL).write_text(json.dumps(sealed(made)))
                if os.path.lexists(folder):  # moved and not emptied: half of it would be read by who comes meanwhile
                    os.rename(folder, Path(aside, "broken"))
                os.rename(made, folder)
    except OSError as error:
        if opened(folder, read)[1]:
            raise MissingEnvironment(f"the cache {folder} cannot be written ({error}): "
                                     "free space, or set TWINSCALE_CACHE to another folder") from error
    return read(folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Open for one process at a time of those that build a folder: a lock beside it, which a kill releases too."""
    path = folder.with_name(f".{folder.name}.lock")
    lock = locked(path)
    while lock and not is_still(path, lock):  # who had it before has taken it away
        lock.close()
        lock = locked(path)
    try:
        yield
    finally:
        if lock:
            path.unlink(missing_ok=True)
            lock.close()


def locked(path: Path) -> TextIO | None:
    """A file, made if need be, once this process alone has it locked; None where a file system has no locks: then
    whoever comes last has built the folder."""
    lock = open(path, "w")  # noqa: SIM115  whoever asked for it closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        lock.close()
        path.unlink(missing_ok=True)
        return None
    return lock


def is_still(path: Path, lock: TextIO) -> bool:
    """Whether a path is still that of an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(lock.fileno()))
    except OSError:
        return False


def opened(folder: Path, read: Callable[[Path], Any]) -> tuple[Any, Exception | None]:
    """(`read(folder)` of a folder that is what it was sealed as, None), or (None, the error that says why not)."""
    try:
        check(folder)
        return read(folder), None
    except (OSError, ValueError, KeyError, BadInput) as error:
        return None, error
