"""The room as a process that answers calls; see `common/calls/worker.py`."""

from twinscale.common.calls.worker import serve
from twinscale.jaxscale.devices_compile import hasten
from twinscale.jaxscale.models import pair
from twinscale.jaxscale.mutants import MUTANTS, NEUTRAL
from twinscale.jaxscale.mutants_inside import INSIDE
from twinscale.jaxscale.mutants_runtime import RUNTIME
from twinscale.jaxscale.operations import measured
from twinscale.jaxscale.room import ROOM


def leave_program(**arguments):
    """See `common.pairs.matching.leave_program`."""
    from twinscale.common.pairs import matching

    return matching.leave_program(ROOM, pair.opened, **arguments)


def idle_program(**arguments):
    """See `common.pairs.matching.idle_program`."""
    from twinscale.common.pairs import matching

    return matching.idle_program(ROOM, pair.opened, **arguments)


def match_program(**arguments):
    """See `common.pairs.matching.match_program`."""
    from twinscale.common.pairs import matching

    return matching.match_program(ROOM, pair.opened, **arguments)


def leave_sight(**arguments):
    """See `common.pairs.sight.leave_sight`."""
    from twinscale.common.pairs import sight

    return sight.leave_sight(ROOM, pair.opened, "flax", **arguments)


def leave_fed_sight(**arguments):
    """See `common.pairs.sight.leave_fed_sight`."""
    from twinscale.common.pairs import sight

    return sight.leave_fed_sight(ROOM, pair.opened, "flax", **arguments)


def measure_generation(**arguments):
    """See `common.generation.measure.measure_generation`."""
    from twinscale.common.generation import measure
    from twinscale.jaxscale import generate

    return measure.measure_generation(ROOM, generate, **arguments)


if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL | INSIDE | RUNTIME, {"operations": measured, "hasten": hasten,
                                              "leave_program": leave_program, "idle_program": idle_program,
                                              "match_program": match_program, "leave_sight": leave_sight,
                                              "leave_fed_sight": leave_fed_sight,
                                              "measure_generation": measure_generation})
