"""What both backends are had to leave: what is asked of each, in which order, and what becomes of the rest where one
fails."""

import pytest

from tests.benchmarks.test_compare import RECIPE
from twinscale.benchmarks import compare_collect
from twinscale.common.errors import TwinscaleError


class Leaving:
    """A worker that notes what it is asked, and leaves nothing; what it fails at raises."""

    def __init__(self, backend, asked, fails=None, name=None):
        self.backend, self.asked, self.fails, self.process = backend, asked, fails, self
        self.name = name or backend

    def ask(self, call, recipe, **arguments):
        self.asked.append((self.name, call, recipe.train.precision))
        if call == self.fails:
            raise TwinscaleError(f"{self.name} fails")
        return {"own": [], "float64": []}

    def kill(self):
        self.asked.append((self.name, "killed", None))


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.setattr(compare_collect, "pace_of", lambda *of: None)
    return RECIPE.with_values(train={"precision": "float32"})


def test_both_are_asked_alike_in_both_precisions_and_what_waits_for_both_begins_once(recipe, tmp_path):
    asked, drawn = [], []
    workers = {backend: Leaving(backend, asked) for backend in ("keras", "jax")}
    compare_collect.collect_both(workers, {}, recipe, tmp_path, lambda: drawn.append(len(asked)))
    of = {backend: [what for who, *what in asked if who == backend] for backend in workers}
    assert of["keras"] == of["jax"] and {precision for _, precision in of["jax"]} == {"float64", "float32"}
    trainings = [i for i, (_, call, _) in enumerate(asked) if call == "run_training"]
    assert len(trainings) == 8 and len(drawn) == 1 and drawn[0] > trainings[-1]


def test_what_fails_of_one_ends_both(recipe, tmp_path):
    asked = []
    workers = {"keras": Leaving("keras", asked, fails="optimizer_steps"), "jax": Leaving("jax", asked)}
    with pytest.raises(TwinscaleError, match="keras fails"):
        compare_collect.collect_both(workers, {}, recipe, tmp_path, list)
    assert {who for who, call, _ in asked if call == "killed"} == {"keras", "jax"}


def apart(asked, fails=None):
    workers = {backend: Leaving(backend, asked) for backend in ("keras", "jax")}
    return workers, {"keras": Leaving("keras", asked, fails, name="beside")}


def test_a_copy_beside_does_what_is_in_float64_and_nothing_is_done_twice(recipe, tmp_path):
    alone, asked, drawn = [], [], []
    workers, beside = apart(asked)
    compare_collect.collect_both(workers, beside, recipe, tmp_path, lambda: drawn.append(len(asked)))
    compare_collect.collect_both(apart(alone)[0], {}, recipe, tmp_path, lambda: None)
    assert {kind for name, _, kind in asked if name == "beside"} == {"float64"}
    assert {kind for name, _, kind in asked if name == "keras"} == {"float32"}
    shared = [what for what in asked if what[:2] != ("beside", "places_at")]  # of which each does its own precision
    assert sorted((name.replace("beside", "keras"), *what) for name, *what in shared) == sorted(alone)
    trainings = [i for i, (_, call, _) in enumerate(asked) if call == "run_training"]
    assert len(drawn) == 1 and drawn[0] > trainings[-1]


def test_what_fails_of_a_copy_ends_all(recipe, tmp_path):
    asked = []
    workers, beside = apart(asked, fails="optimizer_steps")
    with pytest.raises(TwinscaleError, match="beside fails"):
        compare_collect.collect_both(workers, beside, recipe, tmp_path, list)
    assert {name for name, call, _ in asked if call == "killed"} == {"keras", "jax", "beside"}


def test_who_has_its_runs_from_another_comparison_trains_nothing_more(recipe, tmp_path):
    asked, drawn = [], []
    workers = {backend: Leaving(backend, asked) for backend in ("keras", "jax")}
    compare_collect.collect_both(workers, {}, recipe, tmp_path, lambda: drawn.append(len(asked)), taken=["keras"])
    of = {backend: {call for who, call, _ in asked if who == backend} for backend in workers}
    assert of["keras"] == {"optimizer_steps", "places_at"} and {"run_training", "contract"} <= of["jax"]
    assert len(drawn) == 1


def test_runs_are_taken_under_the_key_that_their_trainer_has_here(recipe, tmp_path):
    where, out, files = tmp_path / "a", tmp_path / "b", {}
    for what, place in (("theirs", where), ("mine", out)):
        key = {"theirs": "jax", "mine": "keras"}[what]
        of = compare_collect.ComparisonFiles(place)
        files[what] = [of.contract(key), of.seed(key, 7) / "run.json"]
        for described in compare_collect.precisions(recipe):
            for run, _ in compare_collect.pair(key):
                files[what] += [compare_collect.first_step_path(place, run, described, point)
                                for point in compare_collect.POINTS]
                files[what].append(compare_collect.run_path(place, run, described) / "trace" / "final.safetensors")
    for number, file in enumerate(files["theirs"]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    compare_collect.take_runs(recipe, out, "keras", where, "jax")
    assert [file.read_text() for file in files["mine"]] == [str(number) for number in range(len(files["theirs"]))]
    assert len(files["mine"]) == 2 + 4 * (len(compare_collect.POINTS) + 1)
    assert sorted(out.rglob("*.*")) == sorted(files["mine"])
