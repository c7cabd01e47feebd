"""How files are timed."""

from twinscale.common.export import shipping
from twinscale.common.export.shipping import LEAST, WARM, warmed


def test_a_sample_is_as_many_calls_as_a_clock_can_tell(monkeypatch):
    for took in (LEAST / 8, 10 * LEAST):
        now, called = [0.0], []

        def call(inputs, took=took, now=now, called=called):
            called.append(inputs)
            now[0] += took

        monkeypatch.setattr(shipping.time, "perf_counter", lambda now=now: now[0])
        assert warmed(call, "rows") == max(1, round(LEAST / took)) and called == ["rows"] * WARM
