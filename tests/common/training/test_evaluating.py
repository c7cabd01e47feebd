"""A state is evaluated on the rows that are asked for, by a room that is handed all of it."""

from contextlib import nullcontext
from types import SimpleNamespace

from twinscale.common.training import evaluating


def test_the_state_is_put_in_place_and_evaluated_on_the_rows_that_are_asked_for(monkeypatch):
    asked = []

    class Room:
        def __getattr__(self, name):
            def call(*given):
                asked.append((name, given[-1]))
                return nullcontext() if name == "numerics" else name
            return call

    recipe = SimpleNamespace(train=SimpleNamespace(metrics=()))
    dataset, tested = SimpleNamespace(manifest={}), SimpleNamespace(manifest={})
    monkeypatch.setattr(evaluating, "open_kept", lambda recipe, kept, accept: dataset if kept == "kept" else None)
    monkeypatch.setattr(evaluating, "evaluated_on", lambda recipe, found, on: tested if (found, on) == (
        dataset, "test") else None)
    monkeypatch.setattr(evaluating, "held_out_sums", lambda evaluate, state, rows, recipe: (
        {"loss": 3.0, "weight": 2.0}, None) if (evaluate, state, rows) == ("make_evaluate", "with_tensors", tested)
        else None)
    begun = {"kept": "kept", "tensors": {}, "step": 7}
    metrics, sums = evaluating.evaluate_state(Room(), recipe, begun, "test")
    assert metrics == {"loss": 1.5} and sums == {"loss": 3.0, "weight": 2.0} and ("with_tensors", 7) in asked
