"""What evaluations may differ by: of classes their hits, of other objectives the loss alone."""

import numpy as np

from twinscale.benchmarks.rungs import ladder
from twinscale.benchmarks.rungs.evaluations import accuracy_bound
from twinscale.common.metrics import finish


def checks_of(sums):
    """The checks of two sides, and their twins, whose evaluations gave the same sums."""
    run = {"loss": np.array([2.0]), "sums": sums, "held_out": finish(sums)}
    runs = dict.fromkeys(("keras", "jax", "keras-twin", "jax-twin"), run) | {"positions": 4}
    return {check["what"]: check for check in ladder.held_out_checks(
        "float32", runs, ladder.loss_curve(runs, "float32", 4))}


def test_an_evaluation_that_counts_no_hits_is_judged_by_its_loss_alone():
    found, hits = checks_of({"loss": 8.0, "weight": 4.0}), checks_of(
        {"loss": 8.0, "weight": 4.0, "correct": 1.0, "near": 0.0})
    assert "float32 held-out loss" in found and all(check["agrees"] for check in found.values())
    assert hits.keys() - found.keys() == {"float32 held-out accuracy"}


def test_as_many_hits_may_flip_as_a_twin_has_and_more_the_more_are_near():
    def bound(near, flipped=0.0):
        sums = [{"correct": 50.0, "weight": 100.0, "near": near}] * 2
        twin = {"sums": {"correct": 50.0 + flipped}}
        return accuracy_bound(sums, [({"sums": sums[0]}, twin)], 4, 1e-3)["accuracy"][0]

    assert bound(0.0) < 1e-12 < bound(50.0) < bound(100.0)
    assert bound(0.0, flipped=2.0) >= 4 * 2 / 100
