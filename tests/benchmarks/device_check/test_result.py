"""The exit code of steps."""

import pytest

from twinscale.benchmarks.device_check.result import code_of


@pytest.mark.parametrize("states, code", [
    ([("holds", 0), ("skipped", 0)], 0), ([("holds", 0), ("open", 3)], 3), ([("open", 3), ("failed", 4)], 4),
    ([("failed", 4), ("no", 1), ("open", 3)], 1), ([("skipped", 0)], 4)])
def test_what_says_most_is_the_code_and_nothing_but_skips_is_no_answer(row, states, code):
    steps = [row("environment", backends=()), *(row(str(n), *state) for n, state in enumerate(states))]
    assert code_of(steps) == code
