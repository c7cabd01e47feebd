"""What every verb that fills a directory needs: one that is ours, and a word on the way."""

import sys
import time
from contextlib import contextmanager, suppress

from common.errors import BadInput, MissingEnvironment
from common.files import remove


def check_ours(out, marker, finished, overwrite, option="--out"):
    """The names of what a directory holds. Raises BadInput, which names the `option`, where it holds anything but
    `marker`, the sign that this project filled it, and without `overwrite` where it holds anything at all."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{option} {out}: a file, but a directory is wanted")
    holds = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    if holds and marker not in holds:
        raise BadInput(f"{option} {out}: not empty and not ours; choose another directory")
    if holds and not overwrite:
        state = "a finished" if finished in holds else "an unfinished"
        raise BadInput(f"{option} {out}: holds {state} result; choose another directory or pass --overwrite")
    return holds


def clear(out, marker, finished, overwrite, option="--out"):
    """Empties a directory but for `marker`; raises BadInput where `check_ours` does."""
    for name in check_ours(out, marker, finished, overwrite, option) - {marker}:
        remove(out / name)


@contextmanager
def nothing_left(out):
    """Lets bad input, or what is missing, leave nothing in a directory that was empty or not there before."""
    made = [path for path in (out, *out.parents) if not path.exists()]
    fresh = bool(made) or out.is_dir() and not any(out.iterdir())
    try:
        yield
    except (BadInput, MissingEnvironment):
        if fresh and out.is_dir():
            for entry in out.iterdir():
                remove(entry)
            for path in made:
                with suppress(OSError):  # not empty: another's
                    path.rmdir()
        raise


def tell(who, what):
    """Who is doing what, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {who}  {what}", file=sys.stderr, flush=True)
