"""A comparison's findings in words, and which tensors it shows."""

import math

import numpy as np

from twinscale.benchmarks.compare_judge import sentence, worst_tensors
from twinscale.benchmarks.rungs import ladder


def rung(name, title, worst, bound=1e-6):
    return ladder.rung(name, title, "one function", [ladder.check("float32", worst, bound, "layer_0.kernel", "twins")])


def curve(horizon, difference=1e-9):
    return {"steps": range(200), "horizon": horizon, "difference": np.full(200, difference), "keras": np.full(200, 2.0)}


def test_the_sentence_names_the_first_rung_that_fails_and_not_the_worst():
    """What a later rung shows may come of an earlier one."""
    rungs = [rung("P0", "contract", 0.0), rung("P2", "gradient", 2e-6), rung("P4", "semantics", 1.0)]
    said = sentence(rungs, "float32", {})
    assert said.startswith("Keras and JAX do not agree: P2 (gradient) parts at float32: layer_0.kernel, 2.0e-6 against")
    assert "P4" not in said


def test_the_sentence_says_how_far_they_train_the_same():
    rungs = [rung("P0", "contract", 0.0)]
    said = [sentence(rungs, "float32", {"float32": curve(horizon), "float64": curve(None)}) for horizon in (150, None)]
    assert "within float32 noise up to the horizon at step 150 of 200" in said[0]
    assert "within float32 noise over all 200 steps" in said[1] and "horizon" not in said[1]
    assert all("in float64 within 5.0e-10 relative over 200 steps" in each for each in said)


def test_the_tensors_that_are_shown_are_those_nearest_to_their_bounds():
    def of(group, *found):
        return {"checks": [ladder.check("float64", worst, bound, f"{group}/{name}", "eps")
                           for name, worst, bound in found]}

    gradient = of("gradients", ("a", 1.0, 4.0), ("b", 1e-9, 0.0)) | {}
    gradient["checks"].append(ladder.check("float64", 9.0, 1.0, "logits", "eps"))  # no tensor of the model
    semantics = of("weights", ("a", 3.0, 2.0), ("c", 0.0, 1.0))
    rows = worst_tensors(gradient, semantics, 30)
    assert [(row["step"], row["tensor"], row["ratio"]) for row in rows] == [
        (0, "b", math.inf), (30, "a", 1.5), (0, "a", 0.25), (30, "c", 0.0)]
    assert worst_tensors(gradient, semantics, 30, most=2) == rows[:2]
