"""Folders made once and read for ever: built aside, then renamed, so a killed or racing process leaves no half."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from common.errors import MissingEnvironment

SEAL = "files.json"


def cache_dir():
    """The cache's folder: TWINSCALE_CACHE, or twinscale in XDG_CACHE_HOME or ~/.cache. Raises MissingEnvironment where
    nobody has a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    given = os.environ.get("TWINSCALE_CACHE") or os.path.join(base if os.path.isabs(base) else "~/.cache", "twinscale")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise MissingEnvironment(f"{given}: there is no home directory here: set TWINSCALE_CACHE to a folder") from None


def key(*parts):
    """32 hexadecimal digits that name JSON-able `parts`."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def stamp(paths):
    """[path, bytes, modified] of each file: what may be asked of thousands of files in milliseconds."""
    return [[str(Path(path).absolute()), (stat := os.stat(path)).st_size, stat.st_mtime_ns] for path in paths]


def sizes(folder):
    """{name: bytes} of the files in `folder`, its seal apart."""
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != SEAL}


def whole(folder):
    """Whether `folder` holds the files, at the sizes, that it was sealed with."""
    try:
        return json.loads((folder / SEAL).read_text()) == sizes(folder)
    except (OSError, ValueError):
        return False


def cached(name, build):
    """The cache's folder `name`, filled by `build(folder)` unless it is there and whole.

    Two processes may build it at once: one rename wins, and both read the same content.
    Raises MissingEnvironment where the cache cannot be written.
    """
    folder = cache_dir() / name
    if whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=folder.parent) as aside:
            made = Path(aside, name)
            made.mkdir()
            build(made)
            (made / SEAL).write_text(json.dumps(sizes(made)))
            if not whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
            os.rename(made, folder)
    except OSError as error:
        if not whole(folder):
            raise MissingEnvironment(f"the cache {folder} cannot be written ({error}): "
                                     "free space, or set TWINSCALE_CACHE to another folder") from error
    return folder
