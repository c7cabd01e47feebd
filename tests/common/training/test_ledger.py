"""What a training says of its speed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common import process
from twinscale.common.machine.flops import measured_peak
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.ledger import BadLoss, InFlight, Ledger


def test_a_training_has_an_mfu_where_it_has_the_processors_to_itself(monkeypatch):
    """Beside another it is a figure of both."""
    recipe = Recipe.model_validate({"name": "tiny", "data": {"source": "digits"}, "train": {"global_batch": 4},
                                    "model": {"family": "mlp", "hidden": [8]}})
    dataset = SimpleNamespace(kind="images", classes=10, example_shape=(8, 8, 1))
    one = SimpleNamespace(kind="cpu", names=["cpu:0"], libraries=(), hosts=1)

    def performance(devices=one):
        ledger = Ledger(recipe, dataset, devices, None, None, None)
        ledger.durations = [9.0, 0.5, 0.5]
        return ledger.performance(), ledger

    monkeypatch.delenv(process.SHARED, raising=False)
    alone, ledger = performance()
    assert alone["mfu"] == pytest.approx(ledger.flops / 0.5 / measured_peak("float32", ())[0])
    assert alone["mfu_convention"] == "causal FLOPs / best float32 matrix product of NumPy here"
    several, _ = performance(SimpleNamespace(**vars(one) | {"hosts": 2}))
    assert several["mfu"] is None  # of the others' processors nobody has measured a product
    monkeypatch.setenv(process.SHARED, "1")
    beside, ledger = performance()
    assert beside == alone | {"mfu": None, "mfu_convention": None} and ledger.peak is None


def test_a_call_of_several_steps_is_told_step_by_step_and_its_first_bad_one_named(monkeypatch):
    """What the program has room for behind the last step is no step."""
    monkeypatch.setenv(process.SHARED, "1")
    recipe = Recipe.model_validate({"name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp"}})
    dataset = SimpleNamespace(kind="images", classes=10, example_shape=(8, 8, 1))
    told = []
    ledger = Ledger(recipe, dataset, SimpleNamespace(kind="cpu", hosts=1), SimpleNamespace(log=lambda *_: None),
                    lambda done, **values: told.append((done, values["loss"])), None)

    def call(number, losses):
        losses = np.array([*losses, 0.0])
        metrics = {"loss": losses, "gradient_norm": np.ones(len(losses)), "signals": np.ones((len(losses), 3))}
        return InFlight(number, metrics, list("abc")[:len(losses) - 1], [{}] * (len(losses) - 1))

    ledger.take(call(4, [3.0, 2.0]))
    assert ledger.take(call(6, [1.0, math.nan, 5.0])).written == 1 and told == [(5, 3.0), (6, 2.0)]
    with pytest.raises(BadLoss) as bad:
        ledger.finish()
    assert (bad.value.step.number, bad.value.step.digest, told[2:]) == (7, "b", [(7, 1.0)])
    assert ledger.dispatch(lambda *_: "state", None, 7, [{}, {}]) == "state" and ledger.together == 2
