"""What a search says of itself."""

from types import SimpleNamespace

from twinscale.benchmarks.tuning.collect import cell, described, sentence, show
from twinscale.benchmarks.tuning.space import Axis


def test_a_sentence_counts_every_trial():
    trials = [{"state": state} for state in ("complete", "complete", "pruned", "failed")]
    best = SimpleNamespace(number=1, values=[0.25])
    assert sentence("loss", "minimize", trials, best) == (
        "The least loss is 0.25000, of trial 1; of 4 trials: 2 complete, 1 given up, 1 failed.")
    assert sentence("accuracy", "maximize", trials[3:], None).startswith("No trial came to its end; of 1 trials")


def test_an_axis_is_as_its_file_has_it():
    assert described(Axis("x", 1, 3, 2)) == {"key": "x", "low": 1, "high": 3, "log": False, "step": 2}
    assert described(Axis("x", choices=([1], "a"))) == {"key": "x", "choices": [[1], "a"]}


def test_the_best_comes_first_whatever_better_means(capsys):
    found = {"sentence": "Said.", "direction": "maximize", "metric": "accuracy", "cost": "flops",
             "importance": {"x": 1}, "space": [{"key": "x"}],
             "trials": [{"number": n, "metric": n / 10, "flops": 1e6, "params": {"x": n}} for n in range(3)]}
    show(found)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[0] == "2" and "x: 100%" in lines[-1]
    assert cell(None) == "–" and cell(0.00012345) == "1.23e-4" and cell([1, 2]) == "[1, 2]"
