"""How long a comparison still takes, by the pace of the trainings that are done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinscale.common.training.progress import duration
from twinscale.common.training.run import FinishedRun, read_run

PLACES = 3  # compilations that P1 takes, each about as long as a training's
TIMED = 40  # steps that step times are measured on


@dataclass(frozen=True)
class Pace:
    """Seconds of a backend: once for each program that is compiled, and for each step."""

    compiling: float
    step: float


def pace_of(run_dir: Path, seconds: float, steps: int, own: bool = True) -> Pace:
    """The Pace of a training that took so many seconds in all, compilation included, for so many steps: if it is not
    the recipe's `own` but its float64, steps ahead take half as long, for they move half as many bytes."""
    step = read_run(run_dir, FinishedRun)["performance"]["step_ms_median"] / 1e3
    step = step if math.isfinite(step) else 0.0
    return Pace(max(0.0, seconds - steps * step), step if own else step / 2)


def words_left(pace: Pace | None, ahead: Sequence[tuple[int, bool]]) -> str:
    """", about 1:20 left" of a comparison, in which a backend has trainings `ahead`, [(steps, whether a program is
    compiled for it)]; nothing where no Pace is known yet."""
    if pace is None:
        return ""
    trainings = sum(steps * pace.step + pace.compiling * compiled for steps, compiled in ahead)
    return f", about {duration(trainings + PLACES * pace.compiling + TIMED * pace.step)} left"
