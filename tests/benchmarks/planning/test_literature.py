"""Constants of papers lead to what their papers say."""

import numpy as np
import pytest

from twinscale.benchmarks.planning import literature


def test_sixteen_bits_and_dense_weights_are_worth_themselves_and_fewer_bits_less():
    assert literature.worth_of_bits(16) == literature.worth_of_kept(0) == 1
    worth = [literature.worth_of_bits(bits) for bits in (3, 4, 6, 8, 16)]
    assert worth == sorted(worth) and 0.5 < worth[0] < 0.6 and 0.9 < worth[3] < 0.95


def test_a_weight_that_is_kept_is_worth_more_and_a_sparse_model_less_than_a_dense_one_of_its_size():
    """Frantar et al.: three quarters of zeros give about twice what their nonzero weights would be worth alone."""
    assert literature.worth_of_kept(0.75) == pytest.approx(2.15, abs=0.1)
    assert all(1 / (1 - s) > literature.worth_of_kept(s) > 1 for s in (0.5, 0.75, 0.875))


def test_runs_that_the_authors_publish_lie_on_the_law_of_sparsity():
    """Of t5-data.csv: sparsity, scale, loss, steps of 2^16 tokens; the model at scale 1 has 169,869,312 weights."""
    runs = np.array([[0, 0.0078125, 3.1256, 250e3], [0.875, 0.0625, 2.6271, 1e6], [0.5, 0.0625, 2.3919, 250e3],
                     [0, 0.125, 2.0540, 1e6], [0.75, 2, 1.6854, 500e3], [0.875, 4, 1.6030, 1e6]])
    s, scale, loss, steps = runs.T
    n = 169_869_312 * scale * (1 - s)
    law = ((literature.A_S * (1 - s)**literature.B_S + literature.C_S) / n**literature.B_N
           + (6.9e8 / (65536 * steps))**0.203 + 0.651)
    assert np.abs(law / loss - 1).max() < 0.03


def test_a_good_teacher_helps_a_small_student_of_few_tokens_and_hurts_one_better_than_itself():
    teacher = float(literature.supervised(np.array(7.75e9), np.array(155e9)))
    few = np.array(198e6), np.array(4e9)
    assert literature.distilled(*few, teacher) < literature.supervised(*few) - 0.1
    weak = float(literature.supervised(np.array(198e6), np.array(4e9)))
    many = np.array(2e9), np.array(200e9)
    assert literature.distilled(*many, weak) > literature.supervised(*many) + 0.1
