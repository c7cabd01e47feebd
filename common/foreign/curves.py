"""A loss curve of anybody's training: a CSV with a header, JSON lines, or TensorBoard's events.

What a file is, its content says and not its name. It is read as a stream: of millions of lines only steps and losses
are kept.
"""

import csv
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import check_regular, checked, exists, quoted, shown
from twinscale.common.files.run_files import RunFiles
from twinscale.common.foreign.events import event_files, is_events, scalars

STEPS = ("step", "global_step", "steps", "iteration", "iter", "iterations", "update", "updates", "batch", "epoch")
LOSSES = ("train_loss", "loss", "training_loss", "loss_train", "train_loss_step", "loss_step", "batch_loss",
          "epoch_loss", "train_loss_epoch", "loss_epoch", "value")  # the first that is there is taken
LONGEST = 1 << 20  # bytes of a line
MOST = 2_000_000  # steps of a curve
NAMES = 12  # columns or tags that an error names
SAVED = "a CSV with a header, JSON lines and TensorBoard's events are read"


@dataclass(frozen=True)
class Curve:
    """Losses of a training by its steps."""

    path: Path
    form: str  # "CSV", "JSON lines" or "TensorBoard"
    step: str  # what its steps are called there
    loss: str
    steps: np.ndarray  # (N,), int64, increasing
    losses: np.ndarray  # (N,), float64, finite


def is_foreign(path: Path) -> bool:
    """Whether a path is no run of Twinscale but may be a curve of others: any file, or a directory in which events of
    TensorBoard lie."""
    return not exists(RunFiles(path).info) and (path.is_file() or bool(event_files(path)))


def read_curve(path: Path, step: str | None = None, loss: str | None = None) -> Curve:
    """The curve of a file or of a directory of events.

    Args:
      path: where it lies.
      step, loss: the names of the columns, keys or the tag; None for the usual ones.
    Raises BadInput, one line with the file, the line, the value and the fix.
    """
    if path.is_dir():
        return _of_events(path, event_files(path), loss)
    check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise BadInput(f"{shown(path)}: cannot be read: {error.strerror or error}") from None
    if not head:
        raise BadInput(f"{shown(path)}: is empty; {SAVED}")
    if is_events(head):
        return _of_events(path, [path], loss)
    if b"\0" in head:
        raise BadInput(f"{shown(path)}: not text, and no events of TensorBoard; {SAVED}")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return (_of_json if text.startswith((b"{", b"[")) else _of_csv)(path, step, loss)


# ---- the forms

def _of_csv(path, step, loss):
    lines = _lines(path)
    header = next(lines, "")
    separator = max(",;\t", key=header.count)
    names = [name.strip() for name in _cells(path, lambda: next(csv.reader([header], delimiter=separator), []), 1)]
    if len(names) < 2:
        raise BadInput(f"{shown(path)}: line 1: {quoted(header.strip())}: a header with two columns or more is wanted, "
                       "such as step,loss")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"{shown(path)}: line 1: the column {quoted(twice)} is there twice; rename one")
    of_step = _chosen(path, names, step, STEPS, "step", "column")
    of_loss = _chosen(path, names, loss, LOSSES, "loss", "column")
    at, of = names.index(of_step), names.index(of_loss)
    rows = csv.reader(lines, delimiter=separator)

    def points():
        while (row := _cells(path, lambda: next(rows, None), 2 + rows.line_num)) is not None:
            number = 1 + rows.line_num
            if not row or len(row) > of and not row[of].strip():
                continue  # of a line that other columns are for, such as an evaluation's
            if len(row) != len(names):
                raise BadInput(f"{shown(path)}: line {number}: {len(row)} cells, but the header has {len(names)}; "
                               "mend the line")
            yield number, row[at].strip(), row[of].strip()

    return _curve(path, "CSV", of_step, of_loss, points())


def _cells(path, read: Callable, number):
    """What the module csv reads; raises BadInput with the line where it cannot."""
    try:
        return read()
    except csv.Error as error:
        raise BadInput(f"{shown(path)}: line {number}: no line of a CSV: {shown(error)}; mend the line") from None


def _of_json(path, step, loss):
    lines = ((number, line) for number, line in enumerate(_lines(path), 1) if line.strip())
    entries = ((number, checked(path, line.encode(), dict[str, Any], "a table such as {\"step\": 0, \"loss\": 2.5} a "
                                "line is wanted", f"line {number}")) for number, line in lines)
    seen, held = {}, []
    of_step = of_loss = None
    for number, entry in entries:  # the first line that has both; those before it, such as settings, have none
        held.append((number, entry))
        seen |= dict.fromkeys(entry)
        of_step, of_loss = (_named(entry, given, usual) for given, usual in ((step, STEPS), (loss, LOSSES)))
        if of_step is not None and of_loss is not None or len(held) == NAMES * 100:
            break
    of_step = of_step if of_step is not None else _chosen(path, list(seen), step, STEPS, "step", "key")
    of_loss = of_loss if of_loss is not None else _chosen(path, list(seen), loss, LOSSES, "loss", "key")

    def points():
        for several in (held, entries):
            for number, entry in several:
                if of_loss in entry:
                    if of_step not in entry:
                        raise BadInput(f"{shown(path)}: line {number}: has {quoted(of_loss)} and no {quoted(of_step)}; "
                                       "mend the line")
                    yield number, entry[of_step], entry[of_loss]

    return _curve(path, "JSON lines", of_step, of_loss, points())


def _of_events(path, files, loss):
    """Files of a directory one after the other: a training that was started again has one more, which holds from its
    first step on."""
    tags: dict[str, None] = {}
    for file in files:
        tags |= dict.fromkeys(tag for tag, _, _ in scalars(file))
    tag = _chosen(path, list(tags), loss, LOSSES, "loss", "tag")
    steps, losses = np.zeros(0, np.int64), np.zeros(0)
    for file in files:
        points = ((None, at, value) for of, at, value in scalars(file) if of == tag)
        later = _curve(file, "TensorBoard", "step", tag, points, before=len(steps), empty=True)
        kept = steps < later.steps[0] if len(later.steps) else np.ones(len(steps), bool)
        steps, losses = np.append(steps[kept], later.steps), np.append(losses[kept], later.losses)
    return Curve(path, "TensorBoard", "step", tag, steps, losses)


def _lines(path) -> Iterator[str]:
    """The lines of a text file, each with its end. Raises BadInput where one is too long or no text."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            if len(line) > LONGEST:
                raise BadInput(f"{shown(path)}: line {number}: longer than {LONGEST:,} bytes; {SAVED}")
            if b"\0" in line:
                raise BadInput(f"{shown(path)}: line {number}: not text: a byte of 0; {SAVED}")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(f"{shown(path)}: line {number}: not UTF-8 text (byte {error.start}); save it as UTF-8"
                               ) from None


# ---- names

def _plain(name: str) -> str:
    """A name in small letters, its parts joined by "_": "train_loss" of "Train/Loss"."""
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def _named(names: Iterable[str], given: str | None, usual: Sequence[str]) -> str | None:
    """The one of some names that is `given`, or else the first of the `usual` ones; None where there is none."""
    if given is not None:
        return given if given in names else None
    found = {_plain(name): name for name in reversed(list(names))}
    return next((found[name] for name in usual if name in found), None)


def _chosen(path, names, given, usual, what, kind):
    found = _named(names, given, usual)
    if found is not None:
        return found
    there = ", ".join(shown(name, 60) for name in names[:NAMES]) + ", ..." * (len(names) > NAMES)
    there = f"there are {there}" if names else f"there is no {kind} at all"
    if given is not None:
        raise BadInput(f"{shown(path)}: --{what}-column {shown(given)}: there is no such {kind}; {there}"
                       f"{did_you_mean(given, names)}")
    raise BadInput(f"{shown(path)}: no {kind} is called as a {what} usually is; {there}: say by --{what}-column which "
                   "it is")


# ---- numbers

def _curve(path, form, of_step, of_loss, points, before=0, empty=False):
    """The Curve of (line number or None, step, loss) as they stand in a file; so many were in files `before` it."""
    steps, losses = array("q"), array("d")
    for number, at, value in points:
        where = f"{shown(path)}: " + (f"line {number}: " if number is not None else "")
        step, loss = _step(where, of_step, at), _loss(where, of_loss, at, value)
        if steps and step <= steps[-1]:
            raise BadInput(f"{where}{of_step} = {step} after {steps[-1]}: steps have to increase; leave one training "
                           "in the file, and of each of its steps one line")
        if len(steps) + before >= MOST:
            raise BadInput(f"{where}more than {MOST:,} steps, which is the most that is read; thin it out")
        steps.append(step)
        losses.append(loss)
    if not steps and not empty:
        raise BadInput(f"{shown(path)}: holds no {shown(of_loss)}: there is not one line that has it; write some")
    return Curve(path, form, of_step, of_loss, np.array(steps, np.int64), np.array(losses, np.float64))


def _number(value):
    """A float of a number or of the text of one, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _step(where, name, value):
    found = _number(value)
    if found is None or not found.is_integer() or not 0 <= found <= 2**53:
        raise BadInput(f"{where}{shown(name)} = {quoted(value)}: a whole number, 0 or more, is wanted; mend it, or say "
                       "by --step-column where the steps are")
    return int(found)


def _loss(where, name, at, value):
    found = _number(value)
    if found is None:
        raise BadInput(f"{where}{shown(name)} = {quoted(value)}: a number is wanted; mend it, or say by --loss-column "
                       "where the losses are")
    if not math.isfinite(found):
        raise BadInput(f"{where}{shown(name)} = {quoted(value)} at step {shown(at)}: not finite, from where on nothing "
                       "is to be compared; cut the file before it")
    return found

