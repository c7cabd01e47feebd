"""`python -m tests.wrong_range`: the JAX room with an error in its quantiser, for `tests.chance --plant`: the ranges of
activations are a hundredth too wide."""

from twinscale.common.calls.worker import serve
from twinscale.jaxscale.compress import quantize
from twinscale.jaxscale.room import ROOM

right = quantize.on_grid

if __name__ == "__main__":
    quantize.on_grid = lambda x, low, high, narrow: right(x, low, high if narrow else high * 1.01, narrow)
    serve(ROOM, {}, {})
