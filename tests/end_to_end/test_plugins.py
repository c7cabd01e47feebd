"""What somebody else adds in one Python file, the one of docs/adding.md: both rooms train it alike, and where they do
not, it is seen."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.rungs.ladder import optimizer_rung
from twinscale.common.families.parameters import stream
from twinscale.common.files.tensors import load_tensors
from twinscale.common.metrics import finished
from twinscale.common.objectives import ObjectiveOptions
from twinscale.common.operations.catalogue import optimizer_operation
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.judge import error_of
from twinscale.common.operations.references import FORMATS, Wide
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import short
from twinscale.common.schedules import learning_rates
from twinscale.common.training.trace import optimizer_steps

FILE = Path(__file__).parents[2] / "docs" / "plugins" / "theirs.py"
SIDES = {"keras": "tfscale", "jax": "jaxscale"}
EPS = 2.0**-52


@pytest.fixture
def recipe(recipe_of, trusting):
    """A recipe that names all that the file adds."""
    return recipe_of("mlp", optimizer={"name": f"{FILE}:RMSPROP", "learning_rate": 1e-2, "weight_decay": 0.1,
                                       "ema": 0.5, "clip_norm": 1.0, "rho": 0.8},
                     schedule={"kind": f"{FILE}:INVERSE_ROOT", "warmup": 1, "timescale": 2},
                     objective={"name": f"{FILE}:FOCAL", "gamma": 3.0},
                     train={"steps": 4, "metrics": [f"{FILE}:BRIER"]})


def states(room_of, quickly, recipe, tmp_path):
    """{backend: what three updates by synthetic gradients leave}."""
    found = {}
    for backend, name in SIDES.items():
        with quickly(name):
            optimizer_steps(room_of(name), recipe, tmp_path / f"{backend}.safetensors", 3)
        found[backend] = load_tensors(tmp_path / f"{backend}.safetensors")
    return found


def test_an_optimizer_of_a_file_passes_p3_and_another_rho_does_not(room_of, quickly, recipe, tmp_path):
    found = states(room_of, quickly, recipe, tmp_path)
    assert any(name.startswith("2/v/") for name in found["jax"])
    rung = optimizer_rung({"float64": found}, recipe.optimizer)
    assert rung["agrees"] and len(rung["checks"]) > 10
    with quickly("jaxscale"):
        other = recipe.with_values(optimizer={"rho": 0.81})
        optimizer_steps(room_of("jaxscale"), other, tmp_path / "other.safetensors", 3)
    found["jax"] = load_tensors(tmp_path / "other.safetensors")
    assert not optimizer_rung({"float64": found}, recipe.optimizer)["agrees"]


def test_an_optimizer_of_a_file_is_within_its_own_reference(quickly, recipe, name):
    """P1: what either room makes of it, against the file's NumPy, within the file's bound."""
    plugin, f = recipe.optimizer.name, FORMATS["float64"]
    operation, room = optimizer_operation(plugin), importlib.import_module(f"twinscale.{name}.operations")
    how = {"tfscale": False, "jaxscale": "float64"}[name]
    with quickly(name):
        update = room.compiled({plugin: room.updated("float64", plugin)}, how)[plugin]
        for case, arrays in operation.cases(f, stream(0, "operations", short(plugin))).items():
            arrays = tuple(rounded(x, f) for x in arrays)
            with np.errstate(all="ignore"):
                wanted = operation.reference(f, *(x.astype(Wide) if x.dtype.kind == "f" else x for x in arrays))
            assert error_of(wanted, update(*arrays), "float64") <= operation.bound(f), case


def test_one_step_and_an_evaluation_are_alike(open_room, recipe):
    """The focal loss, its gradient, the update and the Brier score: each to float64's rounding, that of sums of 8 rows'
    weighted losses and of some thousand held-out predictions, which 16 sqrt(N) eps bounds (Higham & Mary 2019)."""
    told, sums, plain = {}, {}, recipe.with_values(objective=ObjectiveOptions())
    for backend, name in SIDES.items():
        with open_room(name, recipe) as opened:
            step = opened.room.make_step(recipe, opened.state, opened.devices)
            state, metrics = step(opened.state, 0, opened.batch())
            batches = [opened.batch(1)]
            sums[backend] = opened.room.make_evaluate(recipe, state, opened.devices)(state, batches)
            told[backend] = {key: np.asarray(value, np.float64) for key, value in metrics.items()}
            told[backend] |= {key: np.array(x) for key, x in opened.room.state_tensors(state).items()}
    for key, value in told["keras"].items():
        assert np.abs(value - told["jax"][key]).max() <= 16 * np.sqrt(8) * EPS * max(1, np.abs(value).max()), key
    with open_room("jaxscale", plain) as opened:
        _, metrics = opened.room.make_step(plain, opened.state, opened.devices)(opened.state, 0, opened.batch())
        assert float(metrics["loss"]) > 1.1 * float(told["jax"]["loss"])  # it is another objective
    scores = [finished(recipe.train.metrics, found)["brier"] for found in sums.values()]
    assert 0.1 < scores[0] < 2 and abs(scores[0] - scores[1]) <= 64 * EPS


def test_the_names_are_those_of_the_file_and_the_hash_speaks_of_its_content(recipe):
    values = recipe.model_dump()
    assert [short(values[table][key]) for table, key in (
        ("optimizer", "name"), ("schedule", "kind"), ("objective", "name"))] == [
        "theirs.py:RMSPROP", "theirs.py:INVERSE_ROOT", "theirs.py:FOCAL"]
    assert all("#sha256=" in name for name in (recipe.objective.name, *recipe.train.metrics))
    rates = learning_rates(recipe)
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2 * (2 / 3) ** 0.5, 1e-2 * 0.5**0.5])
    with pytest.raises(ValueError, match="schedule.warmup=5 exceeds train.steps=4"):
        recipe.with_values(schedule={"warmup": 5})
    with pytest.raises(ValueError, match="train.label_smoothing=0.1 is a term that objective.name=theirs.py:FOCAL"):
        Recipe.model_validate(values | {"train": values["train"] | {"label_smoothing": 0.1}})
