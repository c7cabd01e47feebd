"""What a study says while it trains."""

from io import StringIO

from rich.console import Console

from twinscale.benchmarks.studies import board
from twinscale.benchmarks.studies.design import Planned
from twinscale.benchmarks.studies.sizes import Size
from twinscale.common.recipe.file import load


def runs(monkeypatch):
    monkeypatch.setattr(board, "measured_peak", lambda dtype: (1e9, "NumPy"))
    recipes = [load("mlp-digits", [f"train.steps={steps}", "train.global_batch=10"]) for steps in (10, 1000)]
    return [Planned(backend, recipe, Size(100, 100, 1, 3e7)) for recipe in recipes for backend in ("jax", "keras")]


def test_the_time_is_of_operations_and_of_what_each_run_takes_besides(monkeypatch):
    planned = runs(monkeypatch)
    assert board.estimate(planned[2]) == (3e11 / (board.SHARE * 1e9), board.BESIDE["jax"])
    words = board.plan_words(planned[1:], 1, 4)
    assert words.startswith("3 of 4 runs to train, 6.03e11 operations, about 34:")
    assert "about 17:" in board.plan_words(planned[1:], 2)


def test_a_line_for_each_run_that_ends_with_what_is_left_by_the_pace(monkeypatch, capsys):
    planned = runs(monkeypatch)
    shown = board.Board(planned)
    with shown:
        work, besides = board.estimate(planned[0])
        shown.ended(planned[0], {"state": "finished", "loss": 1.25, "seconds": 2 * work}, 2 * work + 3 * besides)
        shown.ended(planned[1], {"state": "failed", "reason": "not finite"}, 1e6)
    first, second = capsys.readouterr().err.splitlines()
    assert "1 of 4: jax, 100 parameters on 100 tokens, loss 1.25" in first and "failed: not finite" in second
    rest = sum(2 * work + 3 * besides for work, besides in map(board.estimate, planned[2:]))
    assert f"about {board.duration(rest)} left" in second


def test_a_terminal_has_a_row_for_each_recipe(monkeypatch):
    planned = runs(monkeypatch)
    shown = board.Board(planned)
    shown.cells[planned[1].name] = {"state": "finished", "loss": 1.25}
    shown.cells[planned[2].name] = {"state": "failed", "reason": "x"}
    console = Console(width=100, record=True, file=StringIO())
    console.print(shown.table())
    text = console.export_text()
    assert "2 of 4 runs" in text and "1.25" in text and text.count("…") == 2 and "failed" in text
