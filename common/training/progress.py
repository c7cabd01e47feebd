"""Progress of a training on stderr: a bar on a terminal, now and then a plain line elsewhere."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PAUSE = 10  # seconds between plain lines, at least
NARROW = 80  # columns of a terminal under which the bar and the time left are left out


@contextmanager
def training_progress(total: int, start: int, unit: str, enabled: bool = True) -> Iterator[Callable[..., None]]:
    """Yields `report(step, loss=None, rate=None, mfu=None, held_out=None)`: `step` of `total` updates are done, `rate`
    is in `unit` ("tokens/s", "examples/s"), `mfu` a fraction. Values may stay unset; the last ones known are shown.
    What an evaluation says, `held_out` in words, is a line of its own, at once."""
    if not enabled:
        yield lambda step, **_: None
        return
    console, terminal = _console()
    with (_bar if terminal else _lines)(console, total, start, unit) as report:
        yield report


@contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[], None]]:
    """Yields `advance()`, to be called as each of `total` things is done."""
    console, terminal = _console()
    if terminal:
        from rich.progress import Progress

        with Progress(console=console, redirect_stdout=False) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)
        return
    done, last = itertools.count(1), [time.monotonic()]

    def advance():
        number = next(done)
        if number == total or time.monotonic() - last[0] >= PAUSE:
            last[0] = time.monotonic()
            print(f"{what} {number}/{total}", file=sys.stderr, flush=True)

    yield advance


def _console():
    """stderr, and whether it is a terminal that can redraw: FORCE_COLOR, which notebooks set and CI does, makes none of
    a pipe."""
    from rich.console import Console

    console = Console(stderr=True)
    return console, sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _bar(console, total, start, unit):
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    words = TextColumn("{task.completed}/{task.total}  {task.description}", table_column=Column(no_wrap=True))
    wide = console.width >= NARROW
    columns = [BarColumn(bar_width=None), words, TimeRemainingColumn(compact=True)] if wide else [words]
    with Progress(*columns, console=console, expand=wide, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total, completed=start)
        known = {}

        def report(step, held_out=None, **values):
            known.update(_set(values))
            if held_out:
                progress.console.print(_evaluated(step, total, held_out), markup=False, highlight=False, emoji=False)
            progress.update(task, completed=step, description=_words(known, unit))

        yield report


@contextmanager
def _lines(console, total, start, unit):
    began, first, last, known = None, start, -PAUSE, {}

    def report(step, held_out=None, **values):
        nonlocal began, first, last
        known.update(_set(values))
        if held_out:
            print(_evaluated(step, total, held_out), file=sys.stderr, flush=True)
            return
        if began is None:  # the first step's time is that of its compilation
            began, first = time.monotonic(), step
        now = time.monotonic() - began
        if now - last >= PAUSE or step >= total:
            last = now
            left = now / (step - first) * (total - step) if step > first else None
            ending = f"  {duration(left)} left" if left else ""
            print(f"step {step}/{total}  {_words(known, unit)}{ending}".rstrip(), file=sys.stderr, flush=True)

    yield report


def _evaluated(step, total, held_out):
    return f"step {step}/{total}  held out: {held_out}"


def _set(values):
    if unknown := values.keys() - {"loss", "rate", "mfu"}:
        raise TypeError(f"report() shows loss, rate and mfu, not {', '.join(sorted(unknown))}")
    return {key: value for key, value in values.items() if value is not None}


def _words(known, unit):
    words = [f"loss {known['loss']:.4f}"] if "loss" in known else []
    words += [f"{known['rate']:,.0f} {unit}"] if "rate" in known else []
    words += [f"MFU {known['mfu']:.1%}"] if "mfu" in known else []
    return "  ".join(words)


def duration(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03 below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
