"""The files that a pattern means: `*`, `?`, `[...]` and `**` as in `glob`, but each file once, whatever the links."""

import fnmatch
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from twinscale.common.errors import BadInput
from twinscale.common.files.access import shown


def matching(pattern: str) -> list[str]:
    """The sorted paths (text) of the files that match; links are followed, and a file that several reach is taken once,
    by a path without a link where there is one.

    What has brackets and is there by that very name is meant itself. Raises BadInput where a folder cannot be listed or
    what matches is neither a file nor a folder.
    """
    parts = pattern.split("/")
    start = "/" if parts[0] == "" else ""
    found = [path for path in expand(start, parts[1:] if start else parts) if is_file(path)]
    once, folders = {}, {}
    for path in sorted(dict.fromkeys(found), key=os.path.islink):  # a stable sort: files before links to them
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.realpath(path) if os.path.islink(path) else os.path.join(folders[folder], name)
        once.setdefault(real, path)
    return sorted(once.values())


def expand(base: str, parts: Sequence[str]) -> Iterator[str]:
    """Iterator of the paths below the folder `base` that match the `parts` of a pattern."""
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for folder in folders_below(base):
            if rest:
                yield from expand(folder, rest)
            else:
                yield from (os.path.join(folder, name) for name in names(folder) if not name.startswith("."))
    elif not any(c in part for c in "*?[") or ("*" not in part and "?" not in part
                                              and os.path.lexists(os.path.join(base, part))):
        if os.path.lexists(os.path.join(base, part)):
            yield from expand(os.path.join(base, part), rest)
    else:
        for name in fnmatch.filter(names(base), part):
            if part.startswith(".") or not name.startswith("."):
                yield from expand(os.path.join(base, name), rest)


def folders_below(base: str) -> Iterator[str]:
    """`base` and the folders in it at any depth, hidden ones apart: each real folder once, those that no link leads to
    before the others."""
    seen, waiting, links = set(), deque([base]), deque()
    while waiting or links:
        folder = waiting.popleft() if waiting else links.popleft()
        real = os.path.realpath(folder or ".")
        if real in seen or not os.path.isdir(real):
            continue
        seen.add(real)
        yield folder
        for entry in entries(folder):
            path = os.path.join(folder, entry.name)
            if not entry.name.startswith(".") and os.path.isdir(path):
                (links if entry.is_symlink() else waiting).append(path)


def names(folder: str) -> list[str]:
    """The sorted names in a folder; none where it is no folder."""
    return [entry.name for entry in entries(folder)]


def entries(folder: str) -> list[os.DirEntry[str]]:
    """What os.scandir gives of a folder, by name; nothing where it is no folder."""
    try:
        with os.scandir(folder or ".") as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInput(f"{shown(folder)}: cannot be read ({error.strerror}): narrow the pattern") from None


def is_file(path: str | Path, fix: str = "remove it, or narrow data.source", option: str = "") -> bool:
    """Whether a path is a file, and no folder; BadInput with the `fix` where it is neither."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise BadInput(f"{option}{shown(path)} cannot be read ({error.strerror}): {fix}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise BadInput(f"{option}{shown(path)} is no file but a pipe, a socket or a device: {fix}")
    return stat.S_ISREG(mode)


def read_utf8(path: Path) -> str:
    """The text of a file (a pathlib path) in UTF-8, without a byte order mark."""
    try:
        return path.read_bytes().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)}: byte {error.start} is not valid UTF-8 ({error.reason}): convert the file, "
                       "or narrow data.source") from None
