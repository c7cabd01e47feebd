"""TensorBoard's events, written here and now: tensorboardX's own writer does it in a thread, which ends with a
traceback on a full disk, and then whoever has more to write waits for ever."""

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLUSH = 60.0  # seconds after which what was logged is on disk


class Events:
    """A file of events in the directory `path`. What an earlier one has from the step `start` on is not shown; 0 leaves
    it. Raises OSError, of this file by name, where it cannot be written."""

    def __init__(self, path: Path | str, start: int = 0) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # 0.3 s
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._name, self._event, self._scalar, self._flushed = f"{path}/events.out.*", Event, scalar, time.monotonic()
        with self._named():
            self._writer = EventsWriter(os.path.join(path, "events"))
        if start:
            self._write(step=start, file_version="brain.Event:2")
            self._write(step=start, session_log=SessionLog(status=SessionLog.START))

    def add(self, tag: str, value: float, step: int) -> None:
        """A number under a tag and a step."""
        self._write(step=step, summary=self._scalar(tag, value))

    def put(self, summary: Any, step: int) -> None:
        """A summary of tensorboardX, such as a text, under a step."""
        self._write(step=step, summary=summary)

    def close(self) -> None:
        """Writes out what is held, and ends the file."""
        with self._named():
            self._writer.close()

    def _write(self, **values):
        with self._named():
            self._writer.write_event(self._event(wall_time=time.time(), **values))
            if time.monotonic() - self._flushed > FLUSH:
                self._flushed = time.monotonic()
                self._writer.flush()

    @contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:
            error.filename = self._name
            raise
