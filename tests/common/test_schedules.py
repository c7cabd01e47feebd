"""The table of learning rates against its description."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscale.common.recipe.schema import Recipe
from twinscale.common.schedules import learning_rates


def rates(steps, peak=0.5, **schedule):
    return learning_rates(Recipe.model_validate({
        "name": "test", "data": {"source": "digits"}, "model": {"family": "mlp"}, "train": {"steps": steps},
        "optimizer": {"learning_rate": peak}, "schedule": schedule}))


def test_constant_is_the_peak():
    assert np.array_equal(rates(5), np.full(5, 0.5))


@given(st.sampled_from(["constant", "cosine", "linear", "wsd"]), st.integers(0, 9), st.integers(1, 9),
       st.integers(2, 20), st.sampled_from([0.0, 0.1, 0.5]))
def test_every_schedule_climbs_peaks_and_ends(kind, warmup, decay, stable, final):
    decay = decay if kind == "wsd" else 0
    steps = warmup + decay + stable
    table = rates(steps, kind=kind, warmup=warmup, final=final, decay=decay)
    assert table.shape == (steps,) and table.dtype == np.float64
    assert np.allclose(table[:warmup], 0.5 * np.arange(1, warmup + 1) / max(1, warmup), rtol=4e-16)
    assert table[warmup] == 0.5 == table.max()
    assert (np.diff(table[max(0, warmup - 1):]) <= 0).all()
    if kind != "constant":
        assert table[-1] == pytest.approx(0.5 * final, abs=1e-16)
        assert warmup + 1 == steps or table[-2] > table[-1]


def test_cosine_is_half_way_down_in_the_middle():
    table = rates(103, kind="cosine", warmup=2, final=0.2)
    assert table[52] == pytest.approx(0.5 * (0.2 + 0.8 / 2), rel=1e-15)
    assert table[27] == pytest.approx(0.5 * (0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2), rel=1e-15)


def test_wsd_is_stable_and_then_linear():
    table = rates(20, kind="wsd", warmup=4, decay=5, final=0.0)
    assert np.array_equal(table[4:15], np.full(11, 0.5))
    assert np.allclose(table[15:], 0.5 * np.array([0.8, 0.6, 0.4, 0.2, 0]), rtol=1e-15)


def test_linear_falls_by_equal_steps():
    assert np.allclose(np.diff(rates(11, kind="linear")), -0.05, rtol=1e-12)
