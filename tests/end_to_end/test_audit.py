"""The gate itself: planted errors are caught and placed, harmless changes pass, and only where asked for."""

import json

import pytest

from benchmarks import audit as auditing
from common.errors import BadInput

# One of each way to go wrong: what is shared, forward, the loss, backward, the sum, each part of an update, a later
# step, an evaluation; and harmless changes of either backend.
SOME = ["shifted_labels", "future_mask", "head_not_tied", "smoothed_others", "frozen_kernel", "last_micro_batch",
        "clip_each_tensor", "coupled_decay", "bfloat16_moments", "average_each_micro_batch", "same_dropout_each_step",
        "dropped_remainder", "permuted_rows", "products_transposed", "norm_unfused"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "out"
    code = auditing.audit(out, only=SOME)
    return code, json.loads((out / "audit.json").read_text())


def test_what_is_planted_is_caught_and_placed_and_what_is_harmless_passes(found):
    code, audit = found
    assert code == 0, [row for row in audit["rows"] if row["caught"] != bool(row["operation"])]
    assert (audit["mutants"], audit["caught"], audit["placed"]) == (12, 12, 12)
    assert (audit["neutral"], audit["flagged"]) == (3, 0)


def test_signal_stands_far_above_noise(found):
    """A semantic error in float64 is a million times the rounding that a bound allows; bfloat16 moments and the like
    are rounding themselves, of a coarser kind."""
    signals = [row["signal"] for row in found[1]["rows"] if row["operation"]]
    assert min(signals) > 1e6


def test_both_backends_have_enough_to_plant():
    listed = {"keras": {}, "jax": {}}
    for room, backend in (("tfscale", "keras"), ("jaxscale", "jax")):
        module = __import__(f"{room}.mutants", fromlist=["MUTANTS"])
        listed[backend] = {name: {"operation": c.operation} for name, c in (module.MUTANTS | module.NEUTRAL).items()}
        assert all(c.meaning for c in module.MUTANTS.values())
    trials = auditing.plan(listed, None)
    assert sum(bool(t["operation"]) for t in trials) >= 30 and sum(not t["operation"] for t in trials) >= 8
    assert {t["backend"] for t in trials} == {"keras", "jax"}
    with pytest.raises(BadInput, match="no change has such a name"):
        auditing.plan(listed, ["no_such_*"])
