"""The room as a process that answers calls; see `common/calls/worker.py`."""

from twinscale.common.calls.worker import serve
from twinscale.common.pairs.calls import pair_calls
from twinscale.jaxscale.devices_compile import hasten
from twinscale.jaxscale.models import pair
from twinscale.jaxscale.mutants import MUTANTS, NEUTRAL
from twinscale.jaxscale.mutants_inside import INSIDE
from twinscale.jaxscale.mutants_runtime import RUNTIME
from twinscale.jaxscale.operations import measured
from twinscale.jaxscale.room import ROOM


def measure_generation(**arguments):
    """See `common.generation.measure.measure_generation`."""
    from twinscale.common.generation import measure
    from twinscale.jaxscale import generate

    return measure.measure_generation(ROOM, generate, **arguments)


if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL | INSIDE | RUNTIME, pair_calls(ROOM, pair, "flax") | {
        "operations": measured, "hasten": hasten, "measure_generation": measure_generation})
