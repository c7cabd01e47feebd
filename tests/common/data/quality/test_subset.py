"""Subsets are nested, of the size that is asked for, and of the contents alone."""

import numpy as np
import pytest

from twinscale.common.data.quality.subset import chosen, word_of
from twinscale.common.data.split import side
from twinscale.common.quality import Subset

CONTENTS = [f"document {i}".encode() for i in range(4000)]
ALL = np.array([*map(word_of, CONTENTS)], np.uint64)
SIZES = np.random.default_rng(0).integers(10, 1000, 4000)


@pytest.mark.parametrize("key, values", [("share", (0.01, 0.1, 0.5, 1.0)), ("documents", (1, 17, 900, 5000)),
                                         ("bytes", (5, 9000, 10**6, 10**9))])
def test_a_smaller_subset_is_inside_of_a_larger_one(key, values):
    taken = [chosen(ALL, SIZES, Subset(**{key: value})) for value in values]
    for small, large in zip(taken, taken[1:], strict=False):
        assert small.any() and small.sum() < large.sum() and not (small & ~large).any()
    assert taken[-1].all()


def test_a_subset_has_the_size_that_is_asked_for():
    assert chosen(ALL, SIZES, Subset(documents=17)).sum() == 17
    assert abs(chosen(ALL, SIZES, Subset(share=0.25)).sum() - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5
    size = SIZES[chosen(ALL, SIZES, Subset(bytes=100_000))].sum()
    assert 100_000 - 1000 < size <= 100_000
    both = chosen(ALL, SIZES, Subset(share=0.5, documents=17))
    assert np.array_equal(both, chosen(ALL, SIZES, Subset(documents=17)))


def test_a_subset_does_not_depend_on_the_order_of_documents_and_another_seed_takes_others():
    some = Subset(documents=400)
    order = np.random.default_rng(1).permutation(4000)
    assert np.array_equal(chosen(ALL[order], SIZES[order], some), chosen(ALL, SIZES, some)[order])
    shared = chosen(ALL, SIZES, some) & chosen(ALL, SIZES, Subset(documents=400, seed=1))
    assert abs(shared.sum() - 40) < 30


def test_bits_are_others_than_those_of_the_split():
    """Else a subset would begin with what is next to the held-out documents."""
    out = np.array([side(content, 0.5) == "held_out" for content in CONTENTS])
    assert abs((chosen(ALL, SIZES, Subset(share=0.5)) & out).sum() - 1000) < 150
