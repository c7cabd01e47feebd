"""What a training says of its speed."""

from types import SimpleNamespace

import pytest

from twinscale.common import process
from twinscale.common.machine.flops import measured_peak
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.ledger import Ledger


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
