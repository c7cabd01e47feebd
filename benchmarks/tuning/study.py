"""The study of a search in Optuna's terms: its database, samplers, pruners, and what is read of it at the end.

A sampler is made anew for each trial, from the seed and the trial's number: what it draws depends on the trials in the
database alone, so that a search which was killed goes on as it would have.
"""

import itertools
import logging
import math
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twinscale.benchmarks.tuning.space import Axis, Search, grid_of, size
from twinscale.common.errors import BadInput, first_line, need, one_of
from twinscale.common.files.access import shown

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

WAITED = 60  # seconds for another process that writes into the same SQLite database
TREES = 64  # of the forest that importances are read of


@dataclass
class Open:
    """An open study: what was asked for, and the lock under which one trial after the other is asked for."""

    study: "Study"
    search: Search
    axes: tuple[Axis, ...]
    owner: str  # which directory on which machine: of several that share a database
    alone: bool  # whether the database is this directory's own
    lock: Any = field(default_factory=threading.Lock)

    @property
    def trials(self) -> "list[FrozenTrial]":
        """All trials, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False)


def require() -> None:
    """Raises MissingEnvironment where Optuna is not installed."""
    need("optuna", why="`twinscale tune` searches with it")


def open_study(search: Search, axes: tuple[Axis, ...], url: str, name: str, owner: str, direction: str) -> Open:
    """The study `name` in the database at `url`, made where it is not there. Raises BadInput where the database cannot
    be opened."""
    require()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    sqlite, aims = url.startswith("sqlite:"), [direction, *(["minimize"] if search.cost else [])]
    try:
        storage = optuna.storages.RDBStorage(
            url, engine_kwargs={"connect_args": {"timeout": WAITED}} if sqlite else None)
        study = optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, pruner=pruner_of(search),
            directions=aims)  # type: ignore[arg-type]  # texts that a Literal of theirs has
    except Exception as error:  # of any database's driver
        raise BadInput(f"storage = {shown(url)}: cannot be opened as Optuna's database: {shown(first_line(error, 200))}"
                       "; give a URL such as sqlite:////home/me/study.db") from None
    return Open(study, search, axes, owner, not search.storage)


def again(opened: Open) -> int:
    """Puts the trials that were running when this directory's last search ended into the queue once more; returns how
    many."""
    from optuna.trial import TrialState

    left = [trial for trial in opened.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if opened.alone or trial.user_attrs.get("owner") == opened.owner]
    for trial in left:
        opened.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    return len(left)


def next_trial(opened: Open, most: int) -> "Trial | None":
    """The next trial, one of the queue before a new one; None once there are `most`, or all of a grid."""
    from optuna.trial import TrialState

    with opened.lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is experimental
        trials = opened.trials
        waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
        if not waiting and len(trials) >= most:
            return None
        if not waiting and opened.search.sampler == "grid":
            point = next_point(opened, trials)
            if point is None:
                return None
            opened.study.enqueue_trial(point)
        number = min(waiting, default=len(trials))
        opened.study.sampler = sampler_of(opened.search, number)
        trial = opened.study.ask()
        trial.set_user_attr("owner", opened.owner)
        for axis in opened.axes:
            suggested(trial, axis)
        return trial


def points(opened: Open) -> float:
    """How many points there are to try: those of a grid, else without end."""
    if opened.search.sampler != "grid":
        return math.inf
    return math.prod(map(size, opened.axes))


def next_point(opened: Open, trials: "Sequence[FrozenTrial]") -> dict[str, Any] | None:
    """The first point of a grid, in an order drawn by the seed, that none of the trials has; None where all are taken.
    Optuna's own sampler of grids wants to end a loop that is not its own."""
    grid = grid_of(opened.axes)
    order = list(itertools.product(*grid.values()))
    random.Random(opened.search.seed).shuffle(order)
    given = [trial.system_attrs.get("fixed_params") or trial.params for trial in trials]
    taken = {tuple(params.get(key) for key in grid) for params in given}
    return next((dict(zip(grid, point, strict=True)) for point in order if point not in taken), None)


def suggested(trial: "Trial", axis: Axis) -> Any:
    """Has a trial draw the value of an axis, if it has none yet, and returns it as the database keeps it."""
    if axis.choices:
        return trial.suggest_categorical(axis.key, [*axis.labels])
    if axis.whole:
        return trial.suggest_int(axis.key, int(axis.low), int(axis.high), step=int(axis.step or 1), log=axis.log)
    return trial.suggest_float(axis.key, axis.low, axis.high, step=axis.step, log=axis.log)


def sampler_of(search: Search, number: int) -> Any:
    """The sampler of a trial by its number. Those that walk through a sequence keep one seed for all trials."""
    from optuna import samplers

    own = (search.seed * 1_000_003 + number) % 2**32
    made: dict[str, Callable[[], Any]] = {
        "tpe": lambda: samplers.TPESampler(seed=own), "random": lambda: samplers.RandomSampler(seed=own),
        "nsga2": lambda: samplers.NSGAIISampler(seed=own), "qmc": lambda: samplers.QMCSampler(
            seed=search.seed, scramble=True, warn_independent_sampling=False),
        "grid": lambda: samplers.RandomSampler(seed=own)}  # which has nothing to draw
    return one_of(made, search.sampler, "sampler")()


def pruner_of(search: Search) -> Any:
    """The pruner that is asked after each evaluation."""
    from optuna import pruners

    made: dict[str, Callable[[], Any]] = {
        "none": pruners.NopPruner, "median": lambda: pruners.MedianPruner(n_startup_trials=4),
        "percentile": lambda: pruners.PercentilePruner(25.0, n_startup_trials=4),
        "halving": pruners.SuccessiveHalvingPruner, "hyperband": pruners.HyperbandPruner}
    return one_of(made, search.pruner or "none", "pruner")()


def complete(trials: "Sequence[FrozenTrial]") -> "list[FrozenTrial]":
    """Those that were trained to their end."""
    from optuna.trial import TrialState

    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def best_of(opened: Open, direction: str) -> "FrozenTrial | None":
    """The first of the trials whose metric is best, None where none came to its end."""
    sign = {"minimize": 1, "maximize": -1}[direction]
    return min(complete(opened.trials), key=lambda trial: (sign * trial.values[0], trial.number), default=None)


def importances(opened: Open) -> dict[str, float]:
    """{key: its share of what the metric varies by}, the largest first, of functional ANOVA over a forest (Hutter et
    al. 2014); {} where there are too few trials, or all are alike."""
    import optuna

    done = complete(opened.trials)
    if len(done) < 4 or len({trial.values[0] for trial in done}) < 2:
        return {}
    with warnings.catch_warnings(), suppress(ValueError, RuntimeError):
        warnings.simplefilter("ignore")
        judge = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=opened.search.seed)
        return optuna.importance.get_param_importances(
            opened.study, evaluator=judge, target=lambda trial: trial.values[0])
    return {}


def front_of(points: Sequence[tuple[int, float, float]], direction: str) -> list[int]:
    """The numbers of [(number, metric, cost)] that no other beats in one of both without losing in the other, by their
    cost."""
    sign, front, best = {"minimize": 1, "maximize": -1}[direction], [], math.inf
    for number, metric, _ in sorted(points, key=lambda point: (point[2], sign * point[1], point[0])):
        if sign * metric < best:
            best = sign * metric
            front.append(number)
    return front
