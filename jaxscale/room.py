"""What this backend gives to `common/training/loop.py` and its like."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from twinscale.common.errors import one_of
from twinscale.common.training.loop import run_training
from twinscale.common.training.room import Room
from twinscale.jaxscale import checkpoint, devices, devices_arrays, devices_hosts, trace
from twinscale.jaxscale import train as trainer
from twinscale.jaxscale.compress import prune, quantize
from twinscale.jaxscale.compress import train as stage

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


@contextmanager
def numerics(recipe: "Recipe") -> Iterator[None]:
    """JAX has float64 only where it is switched on, and on accelerators rounds the factors of float32 products unless
    told otherwise."""
    precision = one_of({"bfloat16": "default", "float32": "highest", "float64": "highest"}, recipe.train.precision,
                       "train.precision")
    with jax.enable_x64(recipe.train.precision == "float64"), jax.default_matmul_precision(precision):
        yield


class Backend:
    """What a training and a compression's stages have alike of a `common.training.room.Room`: Flax on JAX."""

    backend = "jax"
    Store = checkpoint.Store
    open_devices = staticmethod(devices.open_devices)
    place = staticmethod(devices_arrays.place)
    agree = staticmethod(devices_hosts.agree)
    is_lost = staticmethod(devices_hosts.is_lost)
    state_tensors = staticmethod(trainer.state_tensors)
    make_step_taps = staticmethod(trace.make_step_taps)
    make_sketch = staticmethod(trace.make_sketch)
    shared_tensors = staticmethod(trace.shared_tensors)
    clip_gradients = staticmethod(trace.clip_gradients)
    apply_gradients = staticmethod(trace.apply_gradients)
    extremes = staticmethod(quantize.extremes)
    make_masks = staticmethod(prune.make_masks)
    fake_quantise = staticmethod(quantize.fake_quantise)

    def numerics(self, recipe: "Recipe") -> AbstractContextManager:
        """`numerics`, of a recipe's precision."""
        return numerics(recipe)

    @property
    def compressing(self) -> Room:
        """The Room of a compression's stages."""
        return COMPRESSING


class Training(Backend):
    """The Room of a training."""

    new_state = staticmethod(trainer.new_state)
    make_step = staticmethod(trainer.make_step)
    make_evaluate = staticmethod(trainer.make_evaluate)
    make_step_tensors = staticmethod(trace.make_step_tensors)
    with_tensors = staticmethod(trainer.with_tensors)


class Compressing(Backend):
    """The Room of a compression's stages."""

    new_state = staticmethod(stage.new_state)
    make_step = staticmethod(stage.make_step)
    make_evaluate = staticmethod(stage.make_evaluate)
    make_step_tensors = staticmethod(stage.make_step_tensors)
    with_tensors = staticmethod(stage.with_tensors)


ROOM: Room = Training()
COMPRESSING: Room = Compressing()


def train(recipe: "Recipe", run_dir: Path, **options: Any) -> dict[str, Any]:
    """Trains a recipe into a run directory; see `common.training.loop.run_training`."""
    return run_training(ROOM, recipe, run_dir, **options)
