"""What a fit minimises: slopes are those of values, and names that are none are refused."""

import numpy as np
import pytest

from twinscale.benchmarks.laws.losses import RobustLoss, named
from twinscale.common.errors import BadInput

RESIDUALS = np.array([-0.3, -0.004, -0.0004, 0.0003, 0.002, 0.5])


@pytest.mark.parametrize("loss", [RobustLoss(), RobustLoss("huber", 0.1), RobustLoss("asymmetric", 1e-3, 0.8)])
def test_slopes_are_those_of_values(loss):
    h = 1e-9
    difference = (loss.values(RESIDUALS + h) - loss.values(RESIDUALS - h)) / (2 * h)
    assert np.allclose(difference, loss.slopes(RESIDUALS)[0], rtol=1e-5)


def test_it_is_hubers_and_in_the_limit_absolute():
    loss = RobustLoss()
    values = loss.written(loss.values(np.array([5e-4, 0.1])))
    assert np.allclose(values, [0.5 * 5e-4**2, 1e-3 * (0.1 - 5e-4)], rtol=1e-14)
    assert np.array_equal(RobustLoss("absolute", 0.0).values(RESIDUALS), np.abs(RESIDUALS))
    assert np.allclose(loss.with_delta(1e-12).values(RESIDUALS), np.abs(RESIDUALS), atol=1e-12)


def test_a_tilt_weighs_what_is_predicted_too_high():
    loss = RobustLoss("asymmetric", 1e-3, 0.9)
    high, low = loss.values(np.array([0.2, -0.2]))
    assert high / low == pytest.approx(9)


@pytest.mark.parametrize("asked,words", [
    (("mean", 1e-3, 0.5), "is none of huber, absolute, asymmetric"), (("huber", 0.0, 0.5), "--delta 0"),
    (("huber", float("nan"), 0.5), "--delta nan"), (("huber", 1e-3, 0.7), "is of --objective asymmetric"),
    (("asymmetric", 1e-3, 1.0), "--tilt 1")])
def test_what_is_no_loss_is_refused(asked, words):
    with pytest.raises(BadInput, match=words):
        named(*asked)
