"""What a study says while it trains: how much is ahead, a table that fills, or a line a run."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import tell
from twinscale.benchmarks.studies.design import Planned
from twinscale.common.files.access import shown
from twinscale.common.machine.flops import measured_peak
from twinscale.common.training.progress import duration

# Of how long a run takes, which is said as "about": the share of the best matrix product here that small models come
# to, and seconds that every run takes besides, to compile, evaluate and save (a 6-layer decoder on 2 cores).
SHARE = 0.3
BESIDE = {"jax": 8.0, "keras-jax": 12.0, "keras": 12.0}


def estimate(run: Planned) -> tuple[float, float]:
    """About how many seconds a run trains here, and takes besides."""
    return run.flops / (SHARE * measured_peak("float32")[0]), BESIDE[run.backend]


def plan_words(runs: Sequence[Planned], jobs: int = 1, total: int | None = None) -> str:
    """How many runs there are, what they cost, and about how long that takes on this machine's CPU."""
    of_all = f" of {total}" if total is not None and total != len(runs) else ""
    seconds = sum(sum(estimate(run)) for run in runs) / max(1, min(jobs, len(runs)))
    return (f"{len(runs)}{of_all} run{'s' * (len(runs) != 1)} to train, {sig(sum(run.flops for run in runs), 3)} "
            f"operations, about {duration(seconds)} on this machine's CPU")


class Board:
    """The runs of a study: on a terminal a table that fills, else a line for each that has ended."""

    def __init__(self, runs: Sequence[Planned], jobs: int = 1) -> None:
        self.runs, self.jobs = list(runs), jobs
        self.cells: dict[str, Mapping[str, Any]] = {}  # {name of a run: its row}
        self.spent, self.expected = np.zeros(2), np.zeros(2)  # seconds trained, and besides
        self.live: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self.live = Live(self.table(), console=Console(stderr=True, markup=False, highlight=False),
                             refresh_per_second=1)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def ended(self, run: Planned, row: Mapping[str, Any], seconds: float) -> None:
        """Shows a run that has ended after so many seconds."""
        self.cells[run.name] = row
        if row["state"] == "finished":
            trained = min(row["seconds"] or 0.0, seconds)
            self.spent, self.expected = self.spent + [trained, seconds - trained], self.expected + estimate(run)
        if self.live:
            self.live.update(self.table())
            return
        words = f"loss {sig(row['loss'], 5)}" if row["state"] == "finished" else f"failed: {shown(row['reason'], 160)}"
        tell("study", f"{len(self.cells)} of {len(self.runs)}: {run.backend}, {sig(run.size.total, 3)} parameters on "
                      f"{sig(run.tokens, 3)} tokens, {words}{self.left()}")

    def left(self) -> str:
        """About how long the rest takes, by the pace of what was done."""
        rest = sum((np.array(estimate(run)) for run in self.runs if run.name not in self.cells), np.zeros(2))
        if not rest.any() or not self.expected.all():
            return ""
        return f"; about {duration(float((rest * self.spent / self.expected).sum()) / self.jobs)} left"

    def table(self) -> Any:
        """A row for each recipe, with a column for each backend, as `rich` draws it."""
        from rich.table import Table

        backends = list(dict.fromkeys(run.backend for run in self.runs))
        table = Table("N", "D", "operations", "seed", *backends, box=None, caption=self.left().removeprefix("; "),
                      title=time.strftime("%H:%M:%S  ") + f"{len(self.cells)} of {len(self.runs)} runs")
        by_recipe: dict[str, dict[str, Planned]] = {}
        for run in self.runs:
            by_recipe.setdefault(run.recipe.hash, {})[run.backend] = run
        for pair in by_recipe.values():
            one = next(iter(pair.values()))
            table.add_row(sig(one.size.total, 3), sig(one.tokens, 3), sig(one.flops, 3), str(one.recipe.seed),
                          *(self.cell(pair.get(backend)) for backend in backends))
        return table

    def cell(self, run: Planned | None) -> str:
        """A run's loss, or how it is."""
        row = self.cells.get(run.name) if run else None
        if row is None:
            return "…" if run else "–"
        return sig(row["loss"], 5) if row["state"] == "finished" else "failed"
