"""The room as a process that answers calls; see `common/calls/worker.py`."""

from twinscale.common.calls.worker import serve
from twinscale.common.export import shipping
from twinscale.common.pairs.calls import pair_calls
from twinscale.tfscale.devices_compile import hasten
from twinscale.tfscale.models import pair
from twinscale.tfscale.mutants import MUTANTS, NEUTRAL
from twinscale.tfscale.mutants_inside import INSIDE
from twinscale.tfscale.mutants_runtime import RUNTIME
from twinscale.tfscale.operations import implementations, measured, use_stock
from twinscale.tfscale.room import ROOM


def ship(**arguments):
    """See `common.export.shipping.ship`."""
    from twinscale.tfscale.export import write

    return shipping.ship(write, **arguments)


def file_metrics(**arguments):
    """See `common.export.shipping.file_metrics`."""
    from twinscale.tfscale.predict import load

    return shipping.file_metrics(load, **arguments)


def latencies(**arguments):
    """See `common.export.shipping.latencies`."""
    from twinscale.tfscale.predict import load

    return shipping.latencies(load, **arguments)


def measure_generation(**arguments):
    """See `common.generation.measure.measure_generation`."""
    from twinscale.common.generation import measure
    from twinscale.tfscale import generate

    return measure.measure_generation(ROOM, generate, **arguments)


if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL | INSIDE | RUNTIME, pair_calls(ROOM, pair, "keras") | {
        "operations": measured, "hasten": hasten, "stock": use_stock, "implementations": implementations, "ship": ship,
        "file_metrics": file_metrics, "latencies": latencies, "measure_generation": measure_generation})
