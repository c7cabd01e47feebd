"""Which rows a listed deviation excuses, and when it is stale."""

import pytest

from twinscale.common.operations import known

LISTED = {"operation": "clip", "backend": "jax", "dtype": "float32", "device": "cpu", "how": ["jit"],
          "cases": ["large", "tiny"], "seen": 10.0, "reason": "flushed", "link": "observed"}
ROW = {"operation": "clip", "backend": "jax", "dtype": "float32", "device": "cpu", "how": "jit", "case": "large",
       "agrees": False, "error": 20.0}


@pytest.mark.parametrize("change", [
    {"error": 20.1}, {"agrees": True}, {"case": "normal"}, {"how": "graph"}, {"operation": "gelu"},
    {"backend": "keras"}, {"dtype": "float64"}, {"device": "gpu"}])
def test_a_deviation_excuses_its_own_rows_up_to_twice_what_was_seen(change):
    assert known.excuses(LISTED, ROW) and not known.excuses(LISTED, ROW | change)
    everywhere = {key: value for key, value in LISTED.items() if key != "how"}
    assert known.excuses(everywhere, ROW | {"how": "graph"})


def test_what_was_measured_and_is_not_seen_any_more_is_stale(monkeypatch):
    monkeypatch.setattr(known, "known_deviations", lambda: [LISTED])
    gone, elsewhere = ROW | {"agrees": True, "error": 0.5}, ROW | {"case": "normal"}
    assert known.stale_deviations([gone]) == known.stale_deviations([gone, elsewhere]) == [LISTED]
    assert known.stale_deviations([gone, ROW | {"case": "tiny"}]) == []  # one of its cases shows it
    assert known.stale_deviations([]) == known.stale_deviations([elsewhere]) == []  # nobody has looked
