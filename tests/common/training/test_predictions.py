"""Predictions of a run's last evaluation: when there are some, and what of them is read back."""

from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import save_tensors
from twinscale.common.training import predictions
from twinscale.common.training.loop import Probe
from twinscale.common.training.predictions import keeps, read_predictions, write_predictions


class HeldOut:
    def __len__(self):
        return 5

    def take(self, rows):
        return {"labels": np.zeros((len(rows), 3), np.int32)}


def training(metrics=("report",), devices=1, writes=True, **probe):
    dataset = SimpleNamespace(held_out=HeldOut())
    return SimpleNamespace(
        session=SimpleNamespace(devices=SimpleNamespace(names=["cpu"] * devices), dataset=dataset),
        probe=Probe(**probe), run=SimpleNamespace(writes=writes),
        recipe=SimpleNamespace(train=SimpleNamespace(metrics=metrics)))


def test_they_are_kept_of_classes_on_one_device_and_of_no_twin(monkeypatch):
    assert keeps(training())
    assert not any(keeps(one) for one in (training(()), training(devices=2), training(writes=False),
                                          training(permuted=True), training(held_out=4)))
    monkeypatch.setattr(predictions, "MOST", 14)
    assert not keeps(training())


def test_what_fills_the_last_batch_up_is_left_out(tmp_path):
    assert read_predictions(tmp_path) is None
    part = {"best": np.arange(4, dtype=np.int32), "share": np.ones(4, np.float32), "loss": np.ones(4, np.float32)}
    write_predictions(tmp_path, [part, part], 5)
    assert read_predictions(tmp_path)["best"].tolist() == [0, 1, 2, 3, 0]
    save_tensors(RunFiles(tmp_path).predictions, {"best": np.zeros(3)})
    with pytest.raises(BadInput, match="holds no predictions; make the run again"):
        read_predictions(tmp_path)
