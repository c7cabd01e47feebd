"""The room as a process that answers calls; see `common/worker.py`."""

from common.worker import serve
from tfscale.devices import hasten
from tfscale.mutants import MUTANTS, NEUTRAL
from tfscale.operations import implementations, measured, use_stock
from tfscale.room import ROOM

if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL, {"operations": measured, "hasten": hasten, "stock": use_stock,
                                     "implementations": implementations})
