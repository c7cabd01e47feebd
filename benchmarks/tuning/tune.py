"""Searches a space of recipes: trial by trial, on from what a killed search has left, to the report."""

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.output import REPORT, Kind, clear, same, tell
from twinscale.benchmarks.report.tune import write_tuning
from twinscale.benchmarks.tuning import study as studies
from twinscale.benchmarks.tuning.collect import collected, show
from twinscale.benchmarks.tuning.pool import held, side_by_side
from twinscale.benchmarks.tuning.result import Tuning
from twinscale.benchmarks.tuning.space import Axis, Search, direction_of, overrides_of, read_search
from twinscale.benchmarks.tuning.trials import (
    Crew,
    Pruned,
    Runs,
    costs_of,
    is_failure,
    left,
    metric_of,
    pruning,
    trained,
)
from twinscale.common.errors import DID_IT, NO, BadInput, known
from twinscale.common.families import reads_text
from twinscale.common.families.pair import check_backend
from twinscale.common.files.access import local, plain, shown, write_text
from twinscale.common.files.output import answer, nothing_left
from twinscale.common.files.results import write_result
from twinscale.common.files.run_files import RUN
from twinscale.common.recipe.file import as_override, dumps, given
from twinscale.common.recipe.runtime import check_runtime
from twinscale.common.recipe.schema import digest
from twinscale.common.trackers import check_trackers
from twinscale.common.training.progress import duration

if TYPE_CHECKING:
    from optuna.trial import Trial

    from twinscale.common.recipe.schema import Recipe

DATABASE, RUNS, BEST, TUNE = "study.db", "runs", "best.toml", "tune.json"
KIND = Kind(".tune", TUNE, {r"tune\.json|best\.toml|study\.db(-journal|-wal|-shm)?": None, REPORT: None,
                            RUNS: {r"[0-9a-f]{16}": RUN}, r"\.lock": None})
KNOWN = ("loss", "accuracy")  # metrics that there are without train.metrics; of text two more
OF_TEXT = ("perplexity", "bits_per_byte")


@dataclass(frozen=True)
class Asked:
    """What is searched: the recipe's file or name and overrides, the file of the space, the directory, the backend, the
    number of trials and of those at once."""

    source: str
    overrides: tuple[str, ...]
    space: Path
    out: Path
    backend: str
    trials: int | None = None
    jobs: int = 1
    storage: str | None = None
    ray: str | None = None  # the address of a cluster


def tune(*, overwrite: bool = False, as_json: bool = False, **given: Any) -> int:
    """`tuned` of what is `given` for the fields of Asked, of which it shows the trials or prints tune.json; returns the
    exit code: 0, or 1 where no trial came to its end."""
    asked = Asked(**given)
    with nothing_left(asked.out):
        found = tuned(asked, overwrite)
    answer(plain(found), show, as_json)
    return DID_IT if found.best is not None else NO


def tuned(asked: Asked, overwrite: bool = False) -> Tuning:
    """Searches, on from what an earlier search of the same has left in the directory, and leaves tune.json, the report
    and best.toml there. Returns the Tuning.

    Raises: BadInput before anything is compiled or written; MissingEnvironment without Optuna; what ends a training and
      is not a trial's own, such as a full disk.
    """
    studies.require()
    base, search, axes, direction = read_asked(asked)
    identity = {"verb": "tune", "recipe": base.hash, "backend": asked.backend,
                "space": digest(search.model_dump(mode="json", exclude={"trials", "storage"}))}
    prepare(asked.out, identity, overwrite)
    with held(asked.out):
        owner = f"{socket.gethostname()}:{asked.out.resolve()}"
        name = f"{base.name}-{digest(identity)[:12]}"
        url = search.storage or f"sqlite:///{(asked.out / DATABASE).resolve()}"
        opened = studies.open_study(search, axes, url, name, owner, direction)
        if count := studies.again(opened):
            tell("tune", f"{count} trial{'s' * (count > 1)} of a search that was cut short: trained on")
        search_on(opened, asked, direction, asked.trials or search.trials)
        found = write_result(asked.out / TUNE, Tuning, collected(opened, asked, base, direction))
        if found.recipe:
            write_text(asked.out / BEST, found.recipe.toml)
        write_tuning(plain(found), asked.out)
    return found


def read_asked(asked: Asked) -> "tuple[Recipe, Search, tuple[Axis, ...], str]":
    """(the recipe that is varied, what is asked for, the axes, the metric's direction). Raises BadInput for a key that
    the recipe has not, or that takes none of its values."""
    if not local(asked.out):
        raise BadInput(f"--out {asked.out}: a search wants a directory of this machine; its database may be elsewhere: "
                       "--storage URL")
    search, axes = read_search(asked.space)
    base = without_stages(given(asked.source, asked.overrides))
    direction = direction_of(search, asked.space, base.train.metrics)
    check_backend(base.model, asked.backend)
    check_runtime(base, asked.backend)
    check_trackers(base, asked.out)
    if base.devices.hosts != 1:
        raise BadInput(f"devices.hosts={base.devices.hosts}: a trial trains on one host; set it to 1")
    for axis in axes:
        check_axis(asked, axis)
    names = (*KNOWN, *(OF_TEXT if reads_text(base.model) else ()))
    if not base.train.metrics and search.metric not in names:
        raise BadInput(f'{shown(asked.space)}: metric = "{shown(search.metric)}": no value of an evaluation is called '
                       f"so; there are {', '.join(names)}, and what train.metrics measure")
    varied = any(axis.key == "train.eval_every" for axis in axes)
    if search.pruner not in (None, "none") and not base.train.eval_every and not varied:
        raise BadInput(f'{shown(asked.space)}: pruner = "{search.pruner}": gives up by evaluations, and '
                       "train.eval_every = 0 has none before the end; set train.eval_every=N")
    settled = {"storage": asked.storage if asked.storage is not None else search.storage}
    if search.pruner is None:
        settled["pruner"] = "median" if not search.cost and (base.train.eval_every or varied) else "none"
    return base, search.model_copy(update=settled), axes, direction


def check_axis(asked: Asked, axis: Axis) -> None:
    """Raises BadInput where the recipe is refused with each of a key's ends or choices by itself."""
    first = None
    for value in axis.ends:
        try:
            given(asked.source, (*asked.overrides, as_override(axis.key, value)))
            return
        except BadInput as error:
            first = first or error
    raise BadInput(f"{shown(asked.space)}: space.{axis.key}: takes none of its values: {first}")


def without_stages(recipe: "Recipe") -> "Recipe":
    """The recipe without stages of a compression, which `compress` trains."""
    return recipe.with_values(compress={"stages": ()}) if recipe.compress.stages else recipe


def prepare(out: Path, identity: dict[str, Any], overwrite: bool) -> None:
    """A directory that is new, or holds a search of the same. Raises BadInput where it holds anything else."""
    if not overwrite and same(out, KIND, identity):
        return
    if not overwrite and (out / KIND.marker).exists():
        raise BadInput(f"--out {out}: holds a search of another recipe, space or backend; choose another directory or "
                       "pass --overwrite")
    clear(out, KIND, identity, overwrite)


# ---- trial by trial

def search_on(opened: studies.Open, asked: Asked, direction: str, most: int) -> None:
    """Trains trials until there are `most`, as many at once as were asked for. What ends one and is not its own ends
    all."""
    before, began = len(done(opened)), time.monotonic()
    runs = Runs(asked.out.resolve() / RUNS)

    def one(crew_of):
        if (trial := studies.next_trial(opened, most)) is None:
            return False
        tried(opened, asked, trial, crew_of(asked.backend), runs)
        said(opened, direction, most, before, began)
        return True

    side_by_side(asked.jobs, one, asked.out.resolve(), asked.ray)


def tried(opened: studies.Open, asked: Asked, trial: "Trial", crew: Crew, runs: Runs) -> None:
    """One trial: its recipe, its training, and what the database is told of it. Raises what is not its own."""
    from optuna.trial import TrialState

    search = opened.search
    try:
        recipe = without_stages(given(asked.source, (*asked.overrides, *overrides_of(opened.axes, trial.params))))
        trial.set_user_attr("hash", recipe.hash)
        trial.set_user_attr("recipe", dumps(recipe))
        with runs.held(recipe) as run:
            info = trained(crew, recipe, run, pruning(trial, search.pruner != "none"), search.metric)
        value, costs = metric_of(info, search.metric), costs_of(recipe, info)
        for name, cost in costs.items():
            trial.set_user_attr(name, cost)
        values = [value, *(cost for name, cost in costs.items() if name == search.cost and cost is not None)]
        if search.cost and len(values) == 1:
            raise BadInput(f'cost = "{search.cost}": this family does not say it; take "seconds"')
        opened.study.tell(trial, values)
    except Pruned:
        trial.set_user_attr("reason", "given up by its evaluations")
        opened.study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:
        expected = known(error)
        if expected is None or not is_failure(expected):
            raise
        trial.set_user_attr("reason", str(expected)[:500])
        opened.study.tell(trial, state=TrialState.FAIL)


def done(opened: studies.Open) -> list:
    """The trials that have ended, well or not."""
    return [trial for trial in opened.trials if trial.state.is_finished()]


def said(opened: studies.Open, direction: str, most: int, before: int, began: float) -> None:
    """Says how far the search is, what is best so far and how long it still takes."""
    ended = done(opened)
    last = max(ended, key=lambda trial: trial.datetime_complete)
    words = {"COMPLETE": lambda: f"{opened.search.metric} {sig(last.values[0], 5)}", "PRUNED": lambda: "given up",
             "FAIL": lambda: f"failed: {shown(last.user_attrs.get('reason', ''), 160)}"}[last.state.name]()
    best = studies.best_of(opened, direction)
    best_words = f"; best {sig(best.values[0], 5)} of trial {best.number}" if best else ""
    most = min(most, int(min(studies.points(opened), most)))
    ahead = left(len(ended) - before, most - before, began)
    time_words = f"; about {duration(ahead)} left" if ahead and ahead >= 1 and len(ended) < most else ""
    tell("tune", f"{len(ended)} of {most}: trial {last.number}, {words}{best_words}{time_words}")
