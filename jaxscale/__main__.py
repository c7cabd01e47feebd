"""The room as a process that answers calls; see `common/calls/worker.py`."""

from twinscale.common.calls.worker import serve
from twinscale.jaxscale.devices_compile import hasten
from twinscale.jaxscale.mutants import MUTANTS, NEUTRAL
from twinscale.jaxscale.operations import measured
from twinscale.jaxscale.room import ROOM

if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL, {"operations": measured, "hasten": hasten})
