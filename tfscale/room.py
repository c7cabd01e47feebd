"""What this backend gives to `common/training/loop.py` and its like."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import MissingEnvironment
from twinscale.common.need import missing
from twinscale.common.training.loop import run_training
from twinscale.common.training.room import Room
from twinscale.tfscale import checkpoint, devices, devices_arrays, devices_hosts, trace
from twinscale.tfscale import train as trainer

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def numerics(recipe: "Recipe") -> AbstractContextManager:
    """Keras' dtypes are set a layer at a time: there is nothing to switch."""
    return nullcontext()


def later(name: str) -> Callable[..., Any]:
    """A function of `tfscale.compress`, "FILE.FUNCTION", imported when it is called: a TPU has no TF-MOT."""
    file, function = name.split(".")

    def call(*args, **kwargs):
        try:
            module = import_module(f"twinscale.tfscale.compress.{file}")
        except ModuleNotFoundError as error:
            raise MissingEnvironment(missing(error.name, "compression with Keras needs it")
                                     + ", or take --backend jax") from None
        return getattr(module, function)(*args, **kwargs)

    call.__name__ = name
    return call


class Backend:
    """What a training and a compression's stages have alike of a `common.training.room.Room`: Keras 3 on TensorFlow."""

    backend = "keras"
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
    extremes = staticmethod(later("quantize.extremes"))
    make_masks = staticmethod(later("prune.make_masks"))
    fake_quantise = staticmethod(later("quantize.fake_quantise"))

    def numerics(self, recipe: "Recipe") -> AbstractContextManager:
        """`numerics`, of every recipe."""
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

    new_state = staticmethod(later("train.new_state"))
    make_step = staticmethod(later("train.make_step"))
    make_evaluate = staticmethod(later("train.make_evaluate"))
    make_step_tensors = staticmethod(later("train.make_step_tensors"))
    with_tensors = staticmethod(later("train.with_tensors"))


ROOM: Room = Training()
COMPRESSING: Room = Compressing()


def train(recipe: "Recipe", run_dir: Path, **options: Any) -> dict[str, Any]:
    """Trains a recipe into a run directory; see `common.training.loop.run_training`."""
    return run_training(ROOM, recipe, run_dir, **options)
