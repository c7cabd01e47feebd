"""What a cache saves, from rounds made by hand."""

import pytest

from twinscale.benchmarks.timing import generation
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "x", "model": {"family": "decoder"}})


class Timed:
    """A worker whose tokens take `seconds`, and `times` that without a cache; what compiles takes 100 times that."""

    def __init__(self, seconds, times):
        self.seconds, self.times, self.ways = seconds, times, []

    def ask(self, call, recipe, tokens, cached):
        assert call == "measure_generation" and tokens == 128
        first = cached not in self.ways
        self.ways.append(cached)
        return self.seconds * (1 if cached else self.times) * (100 if first else 1 + len(self.ways) / 1000)


def test_rounds_alternate_and_the_first_one_which_compiles_is_left_out():
    worker = Timed(0.1, 8)
    taken = generation.rounds_of(RECIPE, {"jax": worker}, 128, 4)["jax"]
    assert worker.ways == [False, True, True, False] * 2 + [False, True]
    assert {way: len(seconds) for way, seconds in taken.items()} == {True: 4, False: 4} and max(taken[False]) < 1
    found = generation.summary(taken, 128)
    assert found["times"] == pytest.approx(8, rel=0.01) and found["tokens_per_s"] == pytest.approx(1280, rel=0.01)
    low, high = found["times_interval"]
    assert low <= found["times"] <= high
    assert generation.line("jax", found).startswith("jax: 128 tokens in 0.10")


@pytest.mark.parametrize(("times", "code"), [((8, 6), 0), ((8, 4), 1)])
def test_a_backend_that_saves_less_than_is_asked_for_is_told_by_the_exit_code(monkeypatch, capsys, times, code):
    workers = {backend: Timed(0.1, each) for backend, each in zip(("keras", "jax"), times, strict=True)}
    found = {backend: generation.summary(taken, 128)
             for backend, taken in generation.rounds_of(RECIPE, workers, 128, 4).items()}
    monkeypatch.setattr(generation, "measured", lambda recipe, tokens, rounds: found)
    assert generation.main(["mlp-digits"]) == code
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["keras", "jax"]
