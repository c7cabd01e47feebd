"""What every verb that fills a directory needs: one that is ours, and a word on the way."""

import sys
import time

from common.errors import BadInput
from common.files import remove

EVERY = 10.0  # seconds between words on how far something is


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


def tell(who, what):
    """Who is doing what, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {who}  {what}", file=sys.stderr, flush=True)


def counted(items, total, what):
    """The same items; a line on stderr now and then says how many of `total` there have been."""
    last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            tell("data", f"{number:,} of {total:,} {what}")
