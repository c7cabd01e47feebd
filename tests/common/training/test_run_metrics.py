"""The metrics of a run: nothing is logged twice, and both files say the same."""

import math

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.training.run_metrics import Logger, read_metrics


def steps(path):
    return [entry["step"] for entry in read_metrics(path)]


def test_metrics_are_not_doubled_after_a_resume(tmp_path):
    with Logger(tmp_path) as log:
        for step in range(6):
            log.log(step, {"train/loss": np.float32(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "tra')  # the process died here
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5]
    with Logger(tmp_path, start=4) as log:
        assert steps(tmp_path) == [0, 1, 2, 3]
        log.log(4, {"train/loss": -4.0})
    assert steps(tmp_path) == [0, 1, 2, 3, 4] and read_metrics(tmp_path)[4]["train/loss"] == -4
    Logger(tmp_path).close()
    assert steps(tmp_path) == []


def test_tensorboard_gets_the_same_tags_steps_and_values(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    with Logger(tmp_path) as log:
        log.log(3, {"train/loss": 2.5, "train/nan": math.nan})
    (file,) = tmp_path.glob("events.*")
    data, events = file.read_bytes(), []
    while data:  # records of length, check sum, body, check sum
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12:12 + size]))
        data = data[16 + size:]
    found = {value.tag: (event.step, value.simple_value) for event in events for value in event.summary.value}
    assert found["train/loss"] == (3, 2.5) and math.isnan(found["train/nan"][1])
    assert read_metrics(tmp_path) == [{"step": 3, "train/loss": 2.5, "train/nan": None}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\noops\n{"step": 2}\n')
    with pytest.raises(BadInput, match="line 2 is not JSON"):
        read_metrics(tmp_path)
