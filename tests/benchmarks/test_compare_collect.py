"""Who is asked for what each backend leaves of a comparison."""

import pytest

from tests.benchmarks.test_compare import RECIPE
from twinscale.benchmarks import compare_collect
from twinscale.common.errors import TwinscaleError


class Leaving:
    """A worker that notes what it is asked, and leaves nothing; what it fails at raises."""

    def __init__(self, backend, asked, name, fails=None):
        self.backend, self.asked, self.name, self.fails, self.process = backend, asked, name, fails, self

    def ask(self, call, recipe, **arguments):
        self.asked.append((self.name, call, recipe.train.precision))
        if call == self.fails:
            raise TwinscaleError(f"{self.name} fails")
        return {"own": [], "float64": []}

    def kill(self):
        self.asked.append((self.name, "killed", None))


def apart(asked, fails=None):
    workers = {backend: Leaving(backend, asked, backend) for backend in ("keras", "jax")}
    return workers, {"keras": Leaving("keras", asked, "beside", fails)}


def test_a_worker_beside_does_what_is_in_float64_and_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_collect, "pace_of", lambda *of: None)
    recipe, alone, asked, drawn = RECIPE.with_values(train={"precision": "float32"}), [], [], []
    workers, beside = apart(asked)
    compare_collect.collect_both(workers, beside, recipe, tmp_path, lambda: drawn.append(len(asked)))
    compare_collect.collect_both(apart(alone)[0], {}, recipe, tmp_path, lambda: None)
    assert {kind for name, _, kind in asked if name == "beside"} == {"float64"}
    assert {kind for name, _, kind in asked if name == "keras"} == {"float32"}  # of which places are, too
    assert sorted((name.replace("beside", "keras"), *what) for name, *what in asked) == sorted(alone)
    trainings = [i for i, (_, call, _) in enumerate(asked) if call == "run_training"]
    assert len(drawn) == 1 and drawn[0] > trainings[-1]


def test_what_fails_of_a_worker_beside_ends_all(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_collect, "pace_of", lambda *of: None)
    asked = []
    workers, beside = apart(asked, fails="optimizer_steps")
    with pytest.raises(TwinscaleError, match="beside fails"):
        narrow = RECIPE.with_values(train={"precision": "float32"})
        compare_collect.collect_both(workers, beside, narrow, tmp_path, list)
    assert {name for name, call, _ in asked if call == "killed"} == {"keras", "jax", "beside"}
