"""Optuna's side: what is drawn depends on the database alone, and what is left running is trained on."""

from dataclasses import replace

import pytest

from twinscale.benchmarks.tuning import study
from twinscale.benchmarks.tuning.space import Axis, Search
from twinscale.common.errors import BadInput

pytest.importorskip("optuna", reason="the extra `tune` is not installed")
AXES = (Axis("x", 0.0, 1.0), Axis("y", choices=(1, [2, 3])))


def opened(url, **further):
    search = Search(space={}, **further)
    return study.open_study(search, AXES, url, "s", "here", "minimize")


def in_memory(**further):
    import optuna

    return study.Open(optuna.create_study(), Search(space={}, **further), AXES, "here", True)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_what_is_drawn_does_not_depend_on_who_asks(sampler):
    """As of a search that was started anew before each trial."""
    def drawn(fresh):
        one = in_memory(sampler=sampler, seed=5)
        found = []
        for _ in range(4):
            if fresh:
                one = study.Open(one.study, one.search, one.axes, "here", True)
                one.study.sampler = None
            trial = study.next_trial(one, 9)
            one.study.tell(trial, trial.params["x"])
            found.append(trial.params)
        return found

    assert drawn(False) == drawn(True) and len({trial["x"] for trial in drawn(False)}) == 4


def test_what_was_left_running_comes_first_with_what_it_had_drawn(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    one = opened(url)
    first, second = study.next_trial(one, 3), study.next_trial(one, 3)
    one.study.tell(second, 1.0)
    two = opened(url)
    assert study.again(two) == 1
    taken = study.next_trial(two, 3)
    assert (taken.number, taken.params) == (first.number, first.params)
    two.study.tell(taken, 2.0)
    two.study.tell(study.next_trial(two, 3), 3.0)
    assert study.next_trial(two, 3) is None and len(two.trials) == 3


def test_in_a_shared_database_another_directorys_trials_are_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    study.next_trial(opened(url, storage=url), 3)
    other = study.open_study(Search(space={}, storage=url), AXES, url, "s", "elsewhere", "minimize")
    assert study.again(other) == 0 and study.again(opened(url, storage=url)) == 1


def test_a_front_is_what_nothing_beats_in_both():
    points = [(0, 3.0, 1.0), (1, 2.0, 2.0), (2, 2.5, 3.0), (3, 1.0, 9.0), (4, 2.0, 2.5)]
    assert study.front_of(points, "minimize") == [0, 1, 3]
    assert study.front_of([(n, -m, c) for n, m, c in points], "maximize") == [0, 1, 3]


def test_importance_finds_the_key_that_matters():
    one = in_memory(sampler="random")
    assert study.importances(one) == {}
    for _ in range(12):
        trial = study.next_trial(one, 99)
        one.study.tell(trial, trial.params["x"] ** 2)
    shares = study.importances(one)
    assert shares["x"] > 0.8 and abs(sum(shares.values()) - 1) < 1e-9


def test_a_database_that_cannot_be_opened_is_one_line():
    with pytest.raises(BadInput, match="storage = nonsense: cannot be opened"):
        opened("nonsense")


def test_a_grid_is_walked_once_in_an_order_of_the_seed():
    axes = (Axis("x", 0.0, 0.3, 0.1), AXES[1])

    def walked(seed):
        one = replace(in_memory(sampler="grid", seed=seed), axes=axes)
        found = []
        while (trial := study.next_trial(one, 99)) is not None:
            one.study.tell(trial, 1.0)
            found.append((round(trial.params["x"], 9), trial.params["y"]))
        return found

    first = walked(1)
    assert sorted(first, key=str) == sorted(((x / 10, y) for x in range(4) for y in (1, "[2, 3]")), key=str)
    assert first == walked(1) != walked(2)
