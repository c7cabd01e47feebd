"""Numbers as a person reads them."""

import math

import pytest

from twinscale.benchmarks.numbers import evenly, margin_of, sig, size


@pytest.mark.parametrize("value, words", [
    (3.14e-15, "3.1e-15"), (0.0421, "0.042"), (1234.4, "1,234"), (0, "0"), (9.99, "10"), (-0.5, "−0.50"),
    (2e7, "2.0e7"), (math.nan, "not finite"), (math.inf, "not finite"), (None, "not finite")])
def test_numbers_read_well(value, words):
    assert sig(value) == words


@pytest.mark.parametrize("count, words", [(812, "812 B"), (45_600, "45.6 kB"), (1_234_567, "1.23 MB"),
                                          (999_999, "1.00 MB"), (2.5e9, "2.50 GB"), (None, "–")])
def test_sizes_read_well(count, words):
    assert size(count) == words


@pytest.mark.parametrize("used, words", [(0.0, "exact"), (0.116, "8.6 ×"), (1.0, "1.0 ×"), (2.9e14, "2.9e14 × too far"),
                                         (float("inf"), "not exact"), (float("nan"), "not finite")])
def test_a_margin_reads_alike_everywhere(used, words):
    assert margin_of(used) == words


def test_what_is_thinned_evenly_keeps_both_ends():
    assert evenly(100, 4) == [0, 33, 66, 99] and evenly(3, 9) == [0, 1, 2]
    assert evenly(1, 9) == [0] and evenly(0, 9) == []
