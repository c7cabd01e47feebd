"""The room as a process that answers calls; see `common/calls/worker.py`."""

from twinscale.common.calls.worker import serve
from twinscale.common.planted.mutants import CHANGES
from twinscale.jaxscale.devices_compile import hasten
from twinscale.jaxscale.mutants_runtime import RUNTIME
from twinscale.kerasjax.room import ROOM
from twinscale.tfscale.models import pair
from twinscale.tfscale.mutants_program import PORTABLE
from twinscale.tfscale.operations import implementations, measured, use_stock


def leave_sight(**arguments):
    """See `common.pairs.sight.leave_sight`."""
    from twinscale.common.pairs import sight

    return sight.leave_sight(ROOM, pair.opened, "keras", **arguments)


def leave_fed_sight(**arguments):
    """See `common.pairs.sight.leave_fed_sight`."""
    from twinscale.common.pairs import sight

    return sight.leave_fed_sight(ROOM, pair.opened, "keras", **arguments)


if __name__ == "__main__":
    serve(ROOM, CHANGES | PORTABLE | RUNTIME, {"operations": measured, "hasten": hasten, "stock": use_stock,
                                               "implementations": implementations, "leave_sight": leave_sight,
                                               "leave_fed_sight": leave_fed_sight})
