"""Steps a second of both backends, from rounds made by hand."""

import math
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.report.page import _performance_rows
from twinscale.benchmarks.report.words import step_words
from twinscale.benchmarks.sides import labelled
from twinscale.benchmarks.timing import throughput
from twinscale.common.machine.flops import train_flops
from twinscale.common.recipe.file import given
from twinscale.common.recipe.schema import Recipe

SIDES = {"keras": "Keras", "jax": "JAX"}


class Timed:
    """A worker whose step takes `step` seconds, and its loop `loop` times that, on a machine that drifts."""

    def __init__(self, step, loop, product, asked, clock):
        self.step, self.loop, self.product, self.asked, self.clock = step, loop, product, asked, clock

    def ask(self, call, recipe=None, **arguments):
        self.asked.append((self, call, arguments.get("kind")))
        drift = 1 + 0.5 * math.sin(next(self.clock) / 9)
        if call == "measure_steps":
            return arguments["count"] * self.step * drift * (self.loop if arguments["kind"] == "loop" else 1)
        return {"measure_device": {"kind": "cpu", "names": ["cpu:0"]}, "measure_product": self.product,
                "measure_data": 0.01 * self.step * drift}.get(call)


@pytest.fixture
def measured():
    recipe = Recipe.model_validate({"name": "tiny", "data": {"source": "digits"}, "model": {
        "family": "mlp", "hidden": [8]}, "train": {"global_batch": 4}})
    dataset, asked = SimpleNamespace(classes=10, example_shape=(8, 8, 1)), []
    clock = iter(range(10**6))
    workers = {"keras": Timed(0.13, 1.0, 2e15, asked, clock), "jax": Timed(0.1, 1.2, 3e15, asked, clock)}
    before = {name: {"step_ms_median": 120.0, "mfu": None, "mfu_convention": None} for name in workers}
    return throughput.side_by_side(recipe, dataset, workers, before), recipe, dataset, asked, workers


def test_both_backends_have_one_peak_and_rounds_of_their_own(measured):
    found, recipe, dataset, asked, workers = measured
    flops = 4 * train_flops(recipe.model, dataset.classes, dataset.example_shape)
    for side in found.values():
        assert side["mfu"] == pytest.approx(flops / (side["step_ms_median"] / 1e3) / 3e15)
        assert side["mfu_convention"].endswith("of NumPy, TensorFlow and JAX, JAX's, here")
        low, high = side["step_ms_interval"]
        assert low < side["step_ms_median"] < high and len(side["step_ms"]) >= throughput.ROUNDS[0]
        assert side["round_steps"] == throughput.STEPS[0]
    turns = [(worker, kind) for worker, call, kind in asked if call == "measure_steps"]
    keras, jax = workers.values()
    forth = [(keras, "bare"), (keras, "loop"), (jax, "bare"), (jax, "loop")]
    assert turns[:8] == [*forth, *forth[::-1]]


def test_what_the_loop_costs_and_what_is_none(measured):
    found = measured[0]
    low, high = found["jax"]["loop_overhead_percent_interval"]
    assert 0 < low < found["jax"]["loop_overhead_percent"] < high < 40 and low < 20 < high
    low, high = found["keras"]["loop_overhead_percent_interval"]
    assert low < 0 < high
    rows = {row[0]: row[1:] for row in _performance_rows(found, SIDES)}
    assert rows["loop overhead"][0].startswith("none measurable (") and "%" in rows["loop overhead"][1]
    assert "none" not in rows["loop overhead"][1]


def test_a_ratio_has_its_interval_and_one_that_holds_1_tells_nothing(measured):
    found = measured[0]
    rows = {row[0]: row[3] for row in _performance_rows(found, SIDES)}
    assert all("(" in ratio and "–" in ratio for name, ratio in rows.items() if ratio)
    assert rows["step median, ms"] and rows["throughput, examples/s"] and not rows["MFU"]
    alike = found | {"keras": found["keras"] | {"step_ms": found["jax"]["step_ms"][::-1]}}
    assert "which of them takes longer these rounds do not tell" in step_words(alike, SIDES)
    slower = found | {"keras": found["keras"] | {"step_ms": [2 * x for x in found["jax"]["step_ms"]]}}
    assert "a step of Keras takes 2.00 (2.00 – 2.00) times one of JAX" in step_words(slower, SIDES)
    apart = {side: {key: value for key, value in one.items() if key != "round_steps"} for side, one in found.items()}
    assert "times one of" not in step_words(apart, SIDES)  # of runs of different days
    assert not any(row[3] for row in _performance_rows(apart, SIDES))


@pytest.mark.parametrize(("pair", "names"), [((), ["NumPy", "TensorFlow", "JAX"]),
                                             (("keras-jax", "jax"), ["NumPy", "JAX"])])
def test_a_measured_peak_goes_by_the_runtimes_that_were_asked(monkeypatch, pair, names):
    recipe, asked = given("mlp-digits"), []
    monkeypatch.setattr(throughput, "best_rate", lambda rates: asked.extend(rates) or (1.0, "a matrix product"))
    workers = {key: SimpleNamespace(ask=lambda *of, **how: 1.0) for key in ("keras", "jax")}
    with labelled(recipe.model, pair):
        throughput.common_peak(recipe, workers)("float32")
    assert asked == names
