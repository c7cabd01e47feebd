"""A room that has only some of what a backend gives."""

from dataclasses import fields

from twinscale.common.errors import BadInput
from twinscale.common.session import Room


def partial_room(backend, calls, **able):
    """A `Room` of the functions that are given, enough for `calls` of `common.worker.CALLS`; the other functions raise
    BadInput when they are used."""

    def refusing(name):
        def refuse(*_, **__):
            raise BadInput(f"{backend}: has no {name}: a swapped program answers {' and '.join(calls)} alone; ask the "
                           "program under its own runtime for anything else")

        # A session makes everything at once, whatever of it is going to be used.
        return (lambda *_: refuse) if name.startswith("make_") else refuse

    return Room(backend=backend, **{field.name: able.get(field.name) or refusing(field.name)
                                    for field in fields(Room) if field.name != "backend"})
