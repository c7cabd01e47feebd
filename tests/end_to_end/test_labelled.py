"""Labelled text through both rooms: what evaluations say of the shipped samples is the same, and judged by name."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.rungs import ladder
from twinscale.common.data import open_dataset
from twinscale.common.data.batches import held_out_batches
from twinscale.common.metrics import finish, finished
from twinscale.common.recipe.file import load
from twinscale.common.training import loop
from twinscale.common.training.evaluating import evaluate_state

ROOMS = {"keras": "tfscale", "jax": "jaxscale"}
SHIPPED = Path(__file__).parents[2] / "recipes"
SMALL = ["model.layers=1", "model.width=16", "train.precision=float64", "keras.jit_compile=false",
         "train.global_batch=6"]  # which leaves a remainder


@pytest.fixture(scope="module", params=["ner-conll", "classify-table"])
def evaluated(request, open_room):
    """(recipe, names of classes, {backend: sums}, sums of each batch, {backend: predictions}) of a shipped recipe."""
    recipe = load(SHIPPED / f"{request.param}.toml", SMALL)
    recipe = recipe.with_values(data={"source": recipe.data.source.replace("recipes", str(SHIPPED))})
    found, parts, kept = {}, [], {}
    for backend, room in ROOMS.items():
        with open_room(room, recipe) as opened:
            evaluate = opened.room.make_evaluate(opened.recipe, opened.state, opened.devices)
            kept[backend] = []
            found[backend] = loop.held_out_sums(partial(evaluate, keep=kept[backend].append), opened.state,
                                                opened.dataset, recipe)[0]
            names = opened.dataset.manifest["labels"]
            if backend == "jax":
                parts = [evaluate(opened.state, [batch]) for batch in held_out_batches(opened.dataset, 6)]
    return recipe, names, found, parts, kept


def test_both_rooms_predict_the_same_of_each_row_and_the_sums_are_of_these(evaluated):
    recipe, _, found, _, kept = evaluated
    keras, jax = ({name: np.concatenate([part[name] for part in kept[backend]]) for name in kept[backend][0]}
                  for backend in ROOMS)
    assert keras["share"] == pytest.approx(jax["share"], rel=1e-6) and (keras["best"] == jax["best"]).all()
    assert keras["loss"] == pytest.approx(jax["loss"], rel=1e-6)
    weights = np.concatenate([batch["weights"] for batch in held_out_batches(open_dataset(recipe), 6)])
    assert (jax["loss"] * weights).sum() == pytest.approx(found["jax"]["loss"], rel=1e-5)


def test_both_rooms_count_the_same_and_sums_add_up_over_batches(evaluated):
    recipe, names, found, parts, _ = evaluated
    assert found["keras"].keys() == found["jax"].keys() == parts[0].keys() and len(parts) == 3
    for name, value in found["jax"].items():
        assert found["keras"][name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
        assert sum(part[name] for part in parts) == pytest.approx(value, rel=1e-12, abs=1e-12), name
    values = finished(recipe.train.metrics, found["jax"], names)
    assert any(name.endswith(("/LOC", "/billing")) for name in values)


def test_every_value_has_a_check_and_one_that_is_off_is_caught(evaluated):
    recipe, names, found, _, _ = evaluated
    runs = {"metrics": recipe.train.metrics, "labels": names}
    for run in ("keras", "keras-twin", "jax", "jax-twin"):
        sums = found[run.partition("-")[0]]
        runs[run] = {"sums": sums, "loss": np.array([2.0]),
                     "held_out": finish(sums) | finished(recipe.train.metrics, sums, names)}
    curve = ladder.loss_curve(runs | {"positions": 100}, "float64", 4)
    checks = ladder.held_out_checks("float64", runs, curve)
    assert all(check["worst"] <= check["bound"] for check in checks)
    told = {check["what"] for check in checks}
    assert {f"float64 held-out {name}" for name in runs["jax"]["held_out"]} <= told
    name = next(name for name in runs["jax"]["held_out"] if name.endswith(("recall/LOC", "recall/billing")))
    for run in ("jax", "jax-twin"):
        runs[run] = runs[run] | {"held_out": runs[run]["held_out"] | {name: 0.987}}
    wrong = [check for check in ladder.held_out_checks("float64", runs, curve) if check["worst"] > check["bound"]]
    assert {check["what"] for check in wrong} == {f"float64 held-out {name}"} and len(wrong) == 2


def test_a_state_is_worth_the_same_on_a_file_of_its_held_out_rows(evaluated, open_room):
    recipe, names, found, _, _ = evaluated
    if "entities" not in recipe.train.metrics:
        return  # one source shows it
    file = f"{recipe.data.source.partition(':')[2]}/valid.txt"
    for backend, room in ROOMS.items():
        with open_room(room, recipe) as opened:
            begun = {"kept": None, "tensors": opened.room.state_tensors(opened.state), "step": 0}
            metrics, sums = evaluate_state(opened.room, recipe, begun, file)
        assert sums == pytest.approx(found[backend], rel=1e-12, abs=1e-12)
        assert metrics == finish(sums) | finished(recipe.train.metrics, sums, names)
