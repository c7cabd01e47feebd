"""The words of a compression's report."""

import pytest

from twinscale.benchmarks.compression.words import share


@pytest.mark.parametrize("value, words", [(1.0, "100 %"), (0.0, "0 %"), (0.2047, "20.5 %"), (0.999961, "99.9961 %"),
                                          (0.00004, "0.0040 %"), (0.99, "99.0 %"), (None, "–")])
def test_shares_never_round_to_all_or_nothing(value, words):
    assert share(value) == words
