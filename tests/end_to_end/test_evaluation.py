"""What an evaluation says is judged in every precision: healthy backends agree on each metric, and one that leaves out
the last batch, its averages, or takes means of means does not, and is placed."""

import importlib
from contextlib import nullcontext

import numpy as np
import pytest

from twinscale.benchmarks.compare_collect import HELD_OUT
from twinscale.benchmarks.rungs import ladder, placing
from twinscale.common.training import loop

ROOMS = {"keras": "tfscale", "jax": "jaxscale"}
PRECISIONS = ("float64", "float32", "bfloat16")
ROWS = 4  # a batch
METRICS = {"loss", "accuracy", "perplexity", "bits_per_byte"}


@pytest.fixture(scope="module")
def recipe(recipe_of):
    """recipe(precision): a decoder whose averages are others than its weights; 4 rows a batch leave a remainder."""
    return lambda precision: recipe_of("decoder", model={"layers": 1}, optimizer={"ema": 0.9},
                                       train={"precision": precision, "global_batch": ROWS})


@pytest.fixture(scope="module")
def evaluated(open_room, recipe):
    """evaluated(backend, precision, planted=None): {"run" and "twin": {"held_out", "sums"}} with something planted."""
    known = {}

    def measure(opened, evaluate, dither):
        rng, tensors = np.random.default_rng(3), opened.room.state_tensors(opened.state)
        for name in sorted(name for name in tensors if name.startswith("ema/")):
            x = tensors[name.replace("ema/", "weights/")]
            moved = 3 * x * (1 + dither * rng.choice([-1, 1], x.shape)) + 0.1 * rng.normal(size=x.shape)
            tensors[name] = moved.astype(x.dtype)
        state = opened.room.with_tensors(opened.recipe, opened.state, opened.devices, tensors, 0)
        most = HELD_OUT if opened.recipe.train.precision == "float64" else None
        sums, label_bytes = loop.held_out_sums(evaluate, state, opened.dataset, opened.recipe, None, most)
        assert len(opened.dataset.held_out) % ROWS and len(opened.dataset.held_out) > ROWS * HELD_OUT
        return {"held_out": loop.finish(sums, label_bytes), "sums": sums | {"label_bytes": label_bytes}}

    def compute(backend, precision, planted=None):
        if (backend, precision, planted) not in known:
            mutants = importlib.import_module(f"twinscale.{ROOMS[backend]}.mutants").MUTANTS
            changed = mutants[planted].plant() if planted else nullcontext()
            with open_room(ROOMS[backend], recipe(precision)) as opened, changed:
                evaluate = opened.room.make_evaluate(opened.recipe, opened.state, opened.devices)
                run = measure(opened, evaluate, 0.0)
                twin = measure(opened, evaluate, loop.DITHER[precision])
                known[backend, precision, planted] = {"run": run, "twin": twin}
        return known[backend, precision, planted]

    return compute


def checks_of(evaluated, precision, **planted):
    """What the ladder says of both backends' evaluations, with something planted in one of them."""
    runs = {}
    for backend in ROOMS:
        found = evaluated(backend, precision, planted.get(backend))
        runs |= {backend: found["run"], f"{backend}-twin": found["twin"]}
    same = {run: {"loss": np.array([runs["keras"]["held_out"]["loss"]])} for run in runs}  # a step that shows no noise
    curve = ladder.loss_curve(same | {"positions": ROWS * 16}, precision, 4)  # has the lowest bound
    return ladder.held_out_checks(precision, runs, curve)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_healthy_backends_agree_on_every_metric(evaluated, precision):
    checks = checks_of(evaluated, precision)
    between = {c["what"] for c in checks if c["where"] == "the evaluation"}
    assert between == {f"{precision} held-out {what}" for what in METRICS | {"positions", "bytes"}}
    assert all(c["agrees"] for c in checks), [c for c in checks if not c["agrees"]]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("backend", "planted", "metric"), [
    ("keras", "dropped_remainder", "positions"), ("jax", "dropped_remainder", "positions"),
    ("keras", "no_average_in_evaluation", "loss"), ("jax", "no_average_in_evaluation", "loss"),
    ("jax", "perplexity_of_batches", "perplexity")])
def test_an_evaluation_that_is_another_is_caught_and_placed(evaluated, recipe, precision, backend, planted, metric):
    checks = checks_of(evaluated, precision, **{backend: planted})
    failed = {c["what"]: c["worst"] / max(c["bound"], ladder.TINY) for c in checks if not c["agrees"]}
    assert failed[f"{precision} held-out {metric}"] > 10
    rungs = {"P4": {"checks": []}, "P5": {"checks": checks}}
    assert placing.evaluation_cause(rungs, recipe(precision))["operation"] == "evaluation"
