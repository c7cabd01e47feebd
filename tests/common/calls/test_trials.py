"""What a twin starts a step from."""

from types import SimpleNamespace

import numpy as np

from twinscale.common.calls.trials import dithered, furthest

STATE = {"weights/layer_0.kernel": np.linspace(-1, 1, 101), "m/layer_0.kernel": np.ones(101),
         "weights/stem.norm.mean": np.ones(4)}


def test_a_twins_trained_weights_move_a_little_and_nothing_else_does():
    found = dithered(SimpleNamespace(seed=3), STATE, 1e-6)
    moved = found["weights/layer_0.kernel"] / np.where(STATE["weights/layer_0.kernel"] == 0, 1,
                                                       STATE["weights/layer_0.kernel"]) - 1
    assert found["weights/layer_0.kernel"][50] == 0  # what is zero stays
    assert 1e-7 < np.abs(np.delete(moved, 50)).max() <= 1.001e-6
    for name in ("m/layer_0.kernel", "weights/stem.norm.mean"):
        assert found[name].tobytes() == STATE[name].tobytes()


def test_the_furthest_tensor_is_what_two_states_are_apart_by():
    other = {name: x.copy() for name, x in STATE.items()}
    assert furthest(STATE, other) == 0.0 == furthest(STATE, {})
    other["m/layer_0.kernel"][3] = 1.25
    assert 0.19 < furthest(STATE, other) < 0.26  # a quarter of the largest, by either's
