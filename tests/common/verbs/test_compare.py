"""Comparing: the exit code is the verdict."""

import pytest

from twinscale.common import cli


@pytest.mark.parametrize("verdict, code", [(0, 0), (1, 1), (3, 3), (None, 0)])
def test_compares_exit_code_is_the_verdict(work, room, verdict, code):
    calls = room("benchmarks.compare", verdict)
    assert cli.main(["compare", "r.toml", "seed=5", "--out", "o", "--plant", "jax:no_bias_correction"]) == code
    assert calls[0][1].seed == 5 and calls[0][2]["plant"] == "jax:no_bias_correction" and not calls[0][2]["overwrite"]
