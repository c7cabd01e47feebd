"""The train step as the TPU's compiler sees it, from shapes alone; as `jaxscale.lower`, of the Keras program."""

from twinscale.common.calls.worker import serve
from twinscale.jaxscale.lower import step_compiler
from twinscale.kerasjax.framework import KERAS
from twinscale.kerasjax.room import ROOM

if __name__ == "__main__":
    serve(ROOM, {}, {"compile_step": step_compiler(KERAS)})
