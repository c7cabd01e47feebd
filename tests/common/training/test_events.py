"""A file of events."""

import pytest

from twinscale.common.errors import known
from twinscale.common.training.events import Events
from twinscale.common.training.run_metrics import Logger


def test_events_on_a_full_disk_neither_hang_nor_hide_what_went_wrong_first(tmp_path):
    logger = Logger(tmp_path)
    logger._events.close()
    logger._events._writer._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115  closed by the logger
    with pytest.raises(KeyError), logger:
        for step in range(50):
            logger.log(step, {"train/loss": 1.0})
        raise KeyError
    events = Events(tmp_path)
    events._writer._py_recordio_writer._writer = open("/dev/full", "wb")  # noqa: SIM115
    events.add("train/loss", 1.0, 0)
    with pytest.raises(OSError) as caught:
        events.close()
    assert str(known(caught.value)).startswith(f"{tmp_path}/events.out.*: No space left on device: make room")
