"""`twinscale study`: trains the runs of a design, on from what is there, to a table, laws and a report."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from twinscale.benchmarks.output import REPORT, Kind, clear, nothing_left, same, tell
from twinscale.benchmarks.report.study import write_study
from twinscale.benchmarks.studies.board import Board, plan_words
from twinscale.benchmarks.studies.collect import collected
from twinscale.benchmarks.studies.design import Planned, Study, planned, read_study
from twinscale.benchmarks.studies.result import Studied
from twinscale.benchmarks.studies.table import on_the_way, row_of, write_table
from twinscale.benchmarks.studies.words import show
from twinscale.benchmarks.tuning.pool import held, side_by_side
from twinscale.benchmarks.tuning.trials import Runs, is_failure, is_finished, metric_of, trained
from twinscale.common.data.dataset import open_dataset
from twinscale.common.errors import DID_IT, NO, BadInput, known, need
from twinscale.common.files.access import local, plain, shown
from twinscale.common.files.output import answer
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RUN, RunFiles
from twinscale.common.recipe.schema import digest
from twinscale.common.training.run import read_run

RESULTS, STUDY, RUNS = "results.parquet", "study.json", "runs"
KIND = Kind(".study", STUDY, {r"study\.(json|html|md)|results\.parquet|law-(jax|keras)\.toml": None, REPORT: None,
                              RUNS: {"jax|keras": {r"[0-9a-f]{16}": RUN}}, r"\.lock": None})
ON = re.compile(r"ray(=.+)?")


@dataclass(frozen=True)
class Asked:
    """What is studied: the file, overrides of its recipe, the directory, how many runs at once, where, and of laws the
    resamples, where their draws begin and what intervals hold."""

    file: Path
    overrides: tuple[str, ...]
    out: Path
    jobs: int = 1
    on: str | None = None  # "ray", or "ray=ADDRESS"
    trains: bool = True  # or looks at what is there alone
    boots: int = 1000
    seed: int = 42
    level: float = 0.9

    @property
    def ray(self) -> str | None:
        """The address of a cluster. Raises BadInput where `on` names none."""
        if self.on is not None and not ON.fullmatch(self.on):
            raise BadInput(f"--on {shown(self.on)}: expected ray=HOST:PORT, ray=auto, or ray for a cluster of this "
                           "machine")
        return None if self.on is None else self.on.partition("=")[2] or "local"


@dataclass
class Desk:
    """What the threads of a study share: the runs ahead, and the rows of those that have ended."""

    ahead: list[Planned]
    board: Board
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


def study(*, overwrite: bool = False, as_json: bool = False, dry: bool = False, **given: Any) -> int:
    """`studied` of what is `given` for the fields of Asked, of which it shows the runs and laws, or prints study.json;
    with `dry` it says what would be trained, and trains nothing. Returns the exit code: 0, or 1 where no run came to
    its end."""
    asked = Asked(**given)
    if dry:
        runs = planned(read_study(asked.file), asked.file, asked.overrides)
        answer({"runs": [{"run": run.name, "N": run.size.total, "D": run.tokens, "C": run.flops} for run in runs]},
               lambda _: tell("study", plan_words(runs, asked.jobs)), as_json)
        return DID_IT
    with nothing_left(asked.out):
        found = studied(asked, overwrite)
    answer(plain(found), show, as_json)
    return DID_IT if found.counts["finished"] else NO


def studied(asked: Asked, overwrite: bool = False) -> Studied:
    """Trains what a study lacks, and leaves results.parquet, study.json, laws and the report. Returns the Studied.

    Raises: BadInput before anything is trained; MissingEnvironment without pyarrow; what ends a training and is not a
      run's own, such as a full disk.
    """
    need("pyarrow", why="a study's table is Parquet")
    ray = asked.ray
    if not local(asked.out):
        raise BadInput(f"--out {asked.out}: a study wants a directory of this machine")
    said = read_study(asked.file)
    runs = planned(said, asked.file, asked.overrides)
    there = tokens_there(runs)
    prepare(asked.out, {"verb": "study", "recipe": runs[0].recipe.name}, overwrite)
    with held(asked.out, "study"):
        desk = Desk([], Board(runs, asked.jobs))
        ways = {backend: Runs(asked.out.resolve() / RUNS / backend) for backend in said.backends}
        for run in runs:
            path = ways[run.backend].of(run.recipe)
            if is_finished(path):
                ended(desk, run, there[run.recipe.hash], ways)
            elif not asked.trains and (reason := failure_of(path)):
                ended(desk, run, there[run.recipe.hash], ways, reason)
            else:
                desk.ahead.append(run)
        tell("study", plan_words(desk.ahead, asked.jobs, len(runs)) if asked.trains else
             f"{len(runs) - len(desk.ahead)} of {len(runs)} runs are trained")
        if asked.trains and desk.ahead:
            train(asked, desk, there, ways, ray)
        return finished(asked, said, runs, desk)


def train(asked: Asked, desk: Desk, there: dict[str, int], ways: dict[str, Runs], ray: str | None) -> None:
    """Trains what is ahead, as many at once as were asked for; the table is written after each."""
    def one(crew_of):
        with desk.lock:
            if not desk.ahead:
                return False
            run = desk.ahead.pop(0)
        began, reason = time.monotonic(), None
        try:
            with ways[run.backend].held(run.recipe) as path:
                metric_of(trained(crew_of(run.backend), run.recipe, path, lambda step, value: False, "loss"), "loss")
        except Exception as error:
            expected = known(error)
            if expected is None or not is_failure(expected):
                raise
            reason = str(expected)
        with desk.lock:
            ended(desk, run, there[run.recipe.hash], ways, reason)
            write_rows(desk, asked.out)
            desk.board.ended(run, desk.rows[run.name][-1], time.monotonic() - began)
        return True

    with desk.board:
        side_by_side(asked.jobs, one, asked.out.resolve(), ray, f"--on {'ray=' if '=' in (asked.on or '') else ''}")


def ended(desk: Desk, run: Planned, there: int, ways: dict[str, Runs], reason: str | None = None) -> None:
    """Keeps the rows of a run that has ended, here or before."""
    path = ways[run.backend].of(run.recipe)
    info = read_run(path) if is_finished(path) else None
    if info is not None and reason is None:
        try:
            metric_of(info, "loss")
        except BadInput as error:
            reason = str(error)
    desk.rows[run.name] = [*on_the_way(run, there, path), row_of(run, there, path, info, reason)]
    desk.board.cells[run.name] = desk.rows[run.name][-1]


def failure_of(path: Path) -> str | None:
    """Why a run failed, where it did."""
    info = read_run(path) if RunFiles(path).info.exists() else {}
    return info.get("error", "it failed") if info.get("state") == "failed" else None


def write_rows(desk: Desk, out: Path) -> None:
    """Writes the table of what has ended, in the order of the runs."""
    write_table((row for run in desk.board.runs for row in desk.rows.get(run.name, ())), out / RESULTS)


def finished(asked: Asked, said: Study, runs: Sequence[Planned], desk: Desk) -> Studied:
    """Leaves the table, the laws and the report of all that has ended."""
    write_rows(desk, asked.out)
    rows = [desk.rows[run.name][-1] for run in runs if run.name in desk.rows]
    content, points = collected(asked, said, runs, rows)
    found = write_result(asked.out / STUDY, Studied, content)
    write_study(plain(found), points, asked.out)
    return found


def tokens_there(runs: Sequence[Planned]) -> dict[str, int]:
    """{hash of a recipe: tokens (examples, of what is no text) that its data has to train on}; data are opened once.
    Raises BadInput where they are missing, or too few for a batch."""
    examples: dict[str, int] = {}
    found = {}
    for run in runs:
        key = digest([run.recipe.data.model_dump(mode="json"), run.recipe.model.family])
        if key not in examples:
            examples[key] = len(open_dataset(run.recipe).train)
        if examples[key] < run.recipe.train.global_batch:
            raise BadInput(f"train.global_batch={run.recipe.train.global_batch} is more than the {examples[key]} "
                           "training examples: lower it, or give more data")
        found[run.recipe.hash] = examples[key] * run.size.row
    return found


def prepare(out: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """A directory that is new, or holds a study of the same recipe, which may grow by any design. Raises BadInput where
    it holds anything else."""
    if not overwrite and same(out, KIND, identity):
        return
    if not overwrite and (out / KIND.marker).exists():
        raise BadInput(f"--out {out}: holds a study of another recipe; choose another directory or pass --overwrite")
    clear(out, KIND, identity, overwrite)


