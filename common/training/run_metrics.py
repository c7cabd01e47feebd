"""The metrics of a run: lines of `metrics.jsonl` and TensorBoard's events, under the same names."""

import json
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator

from twinscale.common.files.access import dotted, local, no_follow, place, plain, quoted, read_json_lines, write_text
from twinscale.common.files.run_files import run_files
from twinscale.common.training.events import Events

LARGEST = sys.float_info.max


def _checked_line(values):
    """A line of metrics.jsonl, as it is: its step, and by name numbers or null, for what was not finite."""
    for name, value in values.items():
        if value is not None and (type(value) not in (int, float) or not -LARGEST <= value <= LARGEST):
            raise ValueError(f"{dotted([name])} = {quoted(value)}: expected a finite number")
    if type(values.get("step")) is not int or not 0 <= values["step"] <= 2**53:
        raise ValueError(f"step = {quoted(values.get('step'))}: expected a whole number, 0 or more")
    return values


Line = Annotated[dict[str, Any], AfterValidator(_checked_line)]


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """The dicts of a run's `metrics.jsonl`, in order; a last line that a crash cut short is left out."""
    file = run_files(path).metrics
    return read_json_lines(file, Line, "take the line out by hand") if file.exists() else []


class Logger:
    """Appends to `metrics.jsonl` and to TensorBoard's events under the same names. On resuming, `start` is the first
    step that will be logged anew: what either holds from there on is dropped, so nothing is there twice.
    `also` is told of each line, (step, metrics)."""

    def __init__(self, path: Path | str, start: int = 0, writes: bool = True,
                 also: Callable[[int, Mapping[str, Any]], None] | None = None) -> None:
        self._file = run_files(path).metrics
        self._events: Any = None
        self._writes, self._also = writes, also
        if writes:
            self._lines = [_line(entry) for entry in read_metrics(path) if entry["step"] < start]
            self._rewrite()
        if writes and local(place(path)):  # tensorboardX reaches no bucket without packages of its own
            self._events = Events(path, start)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """One line: `log(7, {"train/loss": 2.5})` writes {"step": 7, "train/loss": 2.5}. The values are numbers."""
        if not self._writes:
            return
        metrics = plain(metrics)
        line = _line({"step": int(step), **metrics})
        if local(self._file):
            with open(self._file, "a", opener=no_follow) as file:
                file.write(line)
        else:
            self._lines.append(line)
            self._rewrite()
        if self._also:
            self._also(int(step), metrics)
        for tag, value in metrics.items() if self._events else ():
            self._events.add(tag, math.nan if value is None else value, int(step))

    def close(self) -> None:
        """Writes out what TensorBoard's writer still holds."""
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        with suppress(OSError) if kind else nullcontext():  # of a full disk: what went wrong first is what is said
            self.close()

    def _rewrite(self):
        write_text(self._file, "".join(self._lines))


def _line(entry):
    return json.dumps(entry, allow_nan=False) + "\n"
