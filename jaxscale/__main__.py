"""The room as a process that answers calls; see `common/worker.py`."""

from common.worker import serve
from jaxscale.devices import hasten
from jaxscale.mutants import MUTANTS, NEUTRAL
from jaxscale.operations import measured
from jaxscale.room import ROOM

if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL, {"operations": measured, "hasten": hasten})
