"""The outline of a training: when something is due, what an earlier start is counted for, and what is said of a NaN."""

import math
from types import SimpleNamespace

import numpy as np

from twinscale.common.files.access import write_json
from twinscale.common.files.run_files import RunFiles
from twinscale.common.training.ledger import InFlight
from twinscale.common.training.loop import due, end_early, explain, spent


def test_what_is_due_every_so_often_is_not_due_after_the_last_step_too():
    assert [done for done in range(1, 11) if due(done, 5, 10)] == [5]
    assert not any(due(done, 0, 10) for done in range(1, 11))


def test_a_training_ends_where_what_is_watched_gets_no_better_unless_it_is_compared():
    train = SimpleNamespace(stop_after=1, watch="loss", metrics=())

    def ended(measured, early=True):
        training = SimpleNamespace(recipe=SimpleNamespace(train=train), probe=SimpleNamespace(early=early), done=10,
                                   steps=30, early=False, measured=measured)
        end_early(training)
        return training.early, training.steps

    assert ended({5: 0.5, 10: 0.6}) == (True, 10) and ended({5: 0.5, 10: 0.4}) == (False, 30)
    assert ended({5: 0.5, 10: 0.6}, early=False) == (False, 30)


def test_time_after_the_last_checkpoint_is_lost_and_the_rest_stays_what_it_was(tmp_path):
    kept = {"seconds": {"train": 4.0, "lost": 1.0}, "elapsed": 10.0}

    def counted(resumed=True, **info):
        return spent(SimpleNamespace(path=tmp_path, resumed=resumed, info={"kept": kept, **info}))

    assert counted(elapsed=13.0) == {"train": 4.0, "lost": 4.0} and kept["seconds"]["lost"] == 1.0
    assert counted(elapsed=10.0) == kept["seconds"] == counted()  # of which nobody knows how long it lived
    write_json(RunFiles(tmp_path).beat(0), {"process": 1, "machine": "m", "state": "running", "seconds": 12.5})
    assert counted() == {"train": 4.0, "lost": 3.5}  # to the last sign of life of one that was killed
    assert counted(resumed=False, elapsed=13.0) == {}


def test_the_first_bad_tensor_is_the_first_that_was_computed():
    bad, good = np.array([1.0, math.inf]), np.ones(2)

    def said(loss, norm, **computed):
        room = SimpleNamespace(state_tensors=lambda state: {"m/kernel": bad, "weights/kernel": good})
        session = SimpleNamespace(step_tensors=lambda *of: computed)
        return explain(room, session, None, InFlight(3, {"loss": loss, "gradient_norm": norm}, "abc", {}))

    assert "first bad tensor: logits;" in said(math.nan, math.nan, places=good, logits=bad, gradients=bad)
    assert said(math.nan, 1.0).startswith("step 3: the loss is nan; batch sha256 abc; first bad tensor: the update;")
    assert said(1.0, math.inf, gradients=bad).startswith("step 3: the gradient's norm is inf;")
