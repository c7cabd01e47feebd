"""What a verb may touch: the directories that it fills and what it makes in them, which it knows by their names and by
a marker; never what a link points at, and never what is somebody else's.

A layout says what is made in a directory: {regular expression of a name: a layout of the directory so called, or None
where a file or a whole directory is meant}. What has none of these names is left alone, wherever it lies.
"""

import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.files.access import (
    HALF,
    escaped_lines,
    is_link,
    local,
    plain,
    read_json,
    remove,
    shown,
    write_json,
)

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.table import Table

EVERY = 10.0  # seconds between words on how far something is


@dataclass(frozen=True)
class Kind:
    """What a verb leaves in a directory: the `marker` that says so from the first moment on, the file `finished`, which
    comes last, and the layout of all that it `holds`."""

    marker: str
    finished: str
    holds: dict


# ---- what is ours below a directory

def ours(root: Path, layout: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """(path, its layout or None) of what is in a directory and in its layout, half-written files too."""
    for entry in list(root.iterdir()):
        half = HALF.fullmatch(entry.name)
        name = half["name"] if half else entry.name
        found = [inside for pattern, inside in layout.items() if re.fullmatch(pattern, name)]
        if found:
            yield entry, None if half else found[0]


def check_within(root: Path, layout: Mapping[str, Any], links: bool = False) -> None:
    """Raises BadInput where something of a layout is a link, or no directory though it should be one: what is written
    or removed there would be somebody else's. With `links` only what they point at counts as such."""
    for entry, inside in ours(root, layout) if local(root) and root.is_dir() else ():
        if is_link(entry):
            if not links:
                raise BadInput(f"{shown(entry)}: a link, but what is made here stays here: put what it points at in "
                               "its place")
        elif inside is not None and not entry.is_dir():
            raise BadInput(f"{shown(entry)}: not what is made here, which is a directory; take it away by hand")
        elif inside is not None:
            check_within(entry, inside, links)


def remove_ours(root: Path, layout: Mapping[str, Any], last: str | None = None) -> None:
    """Removes what is in a layout, links and not what they point at; the file `last` at the end. Other things stay."""
    for entry, inside in sorted(ours(root, layout), key=lambda found: found[0].name == last):
        if inside is None or is_link(entry):
            remove(entry)
        else:
            remove_ours(entry, inside)
            with suppress(OSError, ValueError):  # it holds what is not ours
                entry.rmdir()


def sweep(root: Path, layout: Mapping[str, Any]) -> None:
    """Removes what a kill left of files of a layout that were being written."""
    for entry, inside in ours(root, layout) if local(root) else ():
        if HALF.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
        elif inside is not None and not is_link(entry):
            sweep(entry, inside)


# ---- a directory that a verb fills

def begun(out: Path, kind: Kind, identity: Any) -> bool:
    """Whether a directory holds what the same verb has begun and not finished; `identity`, JSON, is what makes it the
    same."""
    return not (out / kind.finished).exists() and same(out, kind, identity)


def same(out: Path, kind: Kind, identity: Any) -> bool:
    """Whether a directory's marker holds this identity."""
    marker = out / kind.marker
    try:
        return not is_link(marker) and read_json(marker, Any) == identity
    except BadInput:
        return False


def names_in(out: Path, kind: Kind) -> set[str]:
    """The names of what a directory holds; a marker that a kill has cut short is nothing."""
    names = {entry.name for entry in out.iterdir()} if out.is_dir() else set()
    return {name for name in names if not ((half := HALF.fullmatch(name)) and half["name"] == kind.marker)}


def check_ours(out: Path, kind: Kind, overwrite: bool, option: str = "--out") -> None:
    """Raises BadInput, which names the `option`, where a directory holds anything but what a verb of this kind has
    made, or without `overwrite` anything at all."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{option} {out}: a file, but a directory is wanted")
    holds = names_in(out, kind)
    if holds and kind.marker not in holds:
        raise BadInput(f"{option} {out}: not empty and not ours; choose another directory")
    if holds and not overwrite:
        state = "a finished" if kind.finished in holds else "an unfinished"
        raise BadInput(f"{option} {out}: holds {state} result; choose another directory or pass --overwrite")
    check_within(out, kind.holds, links=True)


def check_verb(out: Path, kind: Kind, verb: str, option: str = "--out") -> None:
    """Raises BadInput where a directory is marked as what another verb has made. Markers of earlier versions name
    none."""
    try:
        made = read_json(out / kind.marker, dict[str, Any]).get("verb", verb)
    except BadInput:
        return
    if str(made).removesuffix("-stages") != verb.removesuffix("-stages"):
        raise BadInput(f"{option} {out}: holds what `twinscale {shown(made, 40)}` has made, not `{verb}`; choose "
                       "another directory")


def clear(out: Path, kind: Kind, identity: Any, overwrite: bool, option: str = "--out") -> None:
    """Removes what a verb of this kind has made in a directory, and marks it as what `identity` is going to fill;
    raises BadInput where `check_ours` and `check_verb` do."""
    check_ours(out, kind, overwrite, option)
    check_verb(out, kind, identity["verb"], option)
    if out.is_dir():
        remove_ours(out, {**kind.holds, re.escape(kind.marker): None})
    write_json(out / kind.marker, identity)


def check_files(out: Path, names: Sequence[str], keys: Collection[str], overwrite: bool, option: str = "--out") -> None:
    """For a verb that leaves a few files in a directory that may be anybody's: raises BadInput where one of the files
    `names` is there, but for an earlier answer, which `overwrite` replaces. By the `keys` of the first, which is JSON,
    an answer is known."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{option} {out}: a file, but a directory is wanted")
    there = [name for name in names if (out / name).exists() or is_link(out / name)]
    if not there:
        return
    if there[0] != names[0] or not answered(out / names[0], keys):
        raise BadInput(f"{option} {out}: the {there[0]} there is not ours; choose another directory")
    if not overwrite:
        raise BadInput(f"{option} {out}: holds a {names[0]} already; choose another directory or pass --overwrite")


def answered(file: Path, keys: Collection[str]) -> bool:
    """Whether a file is a JSON object with these keys, and no link."""
    try:
        return not is_link(file) and set(keys) <= read_json(file, dict[str, Any]).keys()
    except BadInput:
        return False


def digest(tensors: "Mapping[str, np.ndarray]") -> str:
    """SHA-256 (hex) of {name: NumPy array}: of which model a directory is."""
    found = hashlib.sha256()
    for name, x in sorted(tensors.items()):
        found.update(f"{name} {x.dtype} {x.shape}\n".encode() + x.tobytes())
    return found.hexdigest()


@contextmanager
def nothing_left(out: Any) -> Iterator[None]:
    """Lets bad input, or what is missing, leave nothing in a directory that was empty or not there before; in a bucket,
    or with no directory at all, it does nothing."""
    if out is None or not local(out):
        yield
        return
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


def tell(who: str, what: Any) -> None:
    """Who is doing what, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {who}  {escaped_lines(what)}", file=sys.stderr, flush=True)


def answer(result: Any, show: Callable[[Any], None], as_json: bool = False) -> None:
    """Prints a verb's result on stdout: by `show(result)`, for people, or the same figures as JSON."""
    if as_json:
        print(json.dumps(plain(result), indent=2))
    else:
        show(result)


def safe_console(**options: Any) -> "Console":
    """A console of the library `rich` on stdout that shows all text as it is, with control and bidirectional characters
    escaped: what it prints may be of others."""
    from rich.console import Console

    class Safe(Console):
        def render_str(self, text, **how):
            return super().render_str(escaped_lines(text), **how)

    return Safe(**{"markup": False, "highlight": False, **options})


def table_of(columns: Iterable[str], rows: Iterable[Iterable[str]] = (), title: str | None = None, *,
             right: Collection[int] = (), ruled: bool = True, tight: bool = False) -> "Table":
    """A table of the library `rich`, which `safe_console` prints. A cell that is too long is folded, so that no figure
    loses its end.

    Args:
      right: the columns, by number, whose cells end at the right.
      ruled: with a line below the head.
      tight: without space before its first column.
    """
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD if ruled else None, pad_edge=not tight,
                 padding=(0, 1, 0, 0) if tight else (0, 1))
    for number, name in enumerate(columns):
        made.add_column(name, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def counted(items: Iterable[Any], total: int, what: Any) -> Generator[Any, None, None]:
    """The same items; a line on stderr now and then says how many of `total` there have been."""
    last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            tell("data", f"{number:,} of {total:,} {what}")
