"""The room as a process that answers calls; see `common/calls/worker.py`."""

from twinscale.common.calls.worker import serve
from twinscale.common.pairs.calls import pair_calls
from twinscale.common.planted.mutants import CHANGES
from twinscale.jaxscale.devices_compile import hasten
from twinscale.jaxscale.mutants_inside import INSIDE
from twinscale.jaxscale.mutants_runtime import RUNTIME
from twinscale.kerasjax.operations import measured
from twinscale.kerasjax.room import ROOM
from twinscale.tfscale import mutants_inside
from twinscale.tfscale.models import pair
from twinscale.tfscale.mutants_program import PORTABLE
from twinscale.tfscale.operations import implementations, use_stock

# Inside a pair: what is of the step, which is JAX' own, and what is of the program, which is Keras'.
PLACED = INSIDE | mutants_inside.PORTABLE

if __name__ == "__main__":
    serve(ROOM, CHANGES | PORTABLE | PLACED | RUNTIME, pair_calls(ROOM, pair, "keras") | {
        "operations": measured, "hasten": hasten, "stock": use_stock, "implementations": implementations})
