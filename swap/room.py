"""A room that has only some of what a backend gives."""

from collections.abc import Sequence
from typing import Any

from twinscale.common.errors import BadInput


class PartialRoom:
    """What is `able` of a `common.training.room.Room`, enough for `calls` of `common.calls.worker.CALLS`; all else of
    it raises BadInput when it is used."""

    def __init__(self, backend: str, calls: Sequence[str], **able: Any) -> None:
        self.backend, self.calls = backend, calls
        vars(self).update(able)

    def __getattr__(self, name):
        def refuse(*_, **__):
            raise BadInput(f"{self.backend}: has no {name}: a swapped program answers {' and '.join(self.calls)} "
                           "alone; ask the program under its own runtime for anything else")

        # A session makes everything at once, whatever of it is going to be used.
        return (lambda *_: refuse) if name.startswith("make_") else refuse
