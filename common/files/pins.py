"""Files that a recipe names and whose content belongs to its meaning: PATH#sha256=HASH."""

import hashlib
from pathlib import Path

from twinscale.common.errors import BadInput
from twinscale.common.files.access import check_regular, exists, files_below, place, shown

MARK = "#sha256="


def pinned_file(name: str) -> str:
    """A file's absolute path and the SHA-256 of its content; a name that has one, or whose file is not there yet, keeps
    what it says."""
    path, mark, _ = name.partition(MARK)
    if mark or not exists(path):
        return name
    return f"{Path(path).absolute()}{MARK}{_sha256_of(path)}"


def unpinned(name: str) -> Path:
    """The path in a name of a file that may be pinned."""
    return Path(name.partition(MARK)[0])


def check_pin(name: str) -> None:
    """Raises BadInput where a pinned file has another content by now."""
    path, mark, pin = name.partition(MARK)
    if mark and (found := _sha256_of(path)) != pin:
        raise BadInput(f"{shown(path)}: has another content than what was meant: its SHA-256 begins with {found[:12]}, "
                       f"not {pin[:12]}: take that content, or leave out {MARK}...")


def _sha256_of(path):
    """Of a file's content; of a directory's, a checkpoint's, of all names and contents."""
    try:
        if (folder := place(path)).is_dir():
            files = sorted(files_below(folder))
            lines = [f"{file.relative_to(folder).as_posix()} {_sha256_of(file)}" for file in files]
            return hashlib.sha256("\n".join(lines).encode()).hexdigest()
        check_regular(path)
        with place(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {error.strerror}: make it readable") from None
