"""How fast examples come, from rounds made by hand and a small source."""

from twinscale.benchmarks.timing import input as timing
from twinscale.common.data import open_dataset
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                                "train": {"global_batch": 16}})


class Counted:
    """A worker whose first round, which reads the data, is slow."""

    def __init__(self):
        self.asked = 0

    def ask(self, call, recipe, count):
        assert (call, count) == ("measure_input", 7)
        self.asked += 1
        return 1.0 if self.asked == 1 else 100.0 + self.asked


def test_the_first_round_is_left_out_and_backends_take_turns():
    workers = {"keras": Counted(), "jax": Counted()}
    found = timing.handed_over(RECIPE, workers, 7, 3)
    assert found == {backend: (102.0, 103.0, 104.0) for backend in workers}
    assert all(worker.asked == 4 for worker in workers.values())


def test_every_stage_is_timed_by_what_it_costs_alone():
    """The batches hold the order too, and so are never faster than it by more than the clock's grain."""
    found = timing.stages(RECIPE, open_dataset(RECIPE), 20)
    assert set(found) == {"order", "batches", "hash"} and all(rate > 0 for rate in found.values())
    assert found["batches"] < 2 * found["order"]
