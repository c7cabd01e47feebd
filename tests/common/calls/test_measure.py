"""Rounds of steps, without a framework."""

from types import SimpleNamespace

import numpy as np

from twinscale.common.calls.measure import Bench, bare


def test_bare_steps_go_on_from_each_other_and_are_waited_for_one_late():
    said = []

    class Metric:
        def __init__(self, number):
            self.number = number

        def __array__(self, dtype=None, copy=None):
            said.append(f"waited for {self.number}")
            return np.zeros(())

    def step(state, number, batch):
        said.append(f"step {number} of {state} on {batch}")
        return state + 10, {"loss": Metric(number)}

    bench = Bench(SimpleNamespace(step=step), 0, 5, "batch")
    assert bare(None, bench, 2) > 0 and (bench.state, bench.number) == (20, 7)
    assert said == ["step 5 of 0 on batch", "step 6 of 10 on batch", "waited for 5", "waited for 6"]
