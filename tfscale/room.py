"""What this backend gives to `common/loop.py` and its like."""

from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module

from twinscale.common.errors import MissingEnvironment
from twinscale.common.loop import run_training
from twinscale.common.need import missing
from twinscale.common.session import Room
from twinscale.tfscale.checkpoint import Store
from twinscale.tfscale.devices import open_devices
from twinscale.tfscale.devices_hosts import agree, is_lost
from twinscale.tfscale.trace import (
    apply_gradients,
    clip_gradients,
    make_sketch,
    make_step_taps,
    make_step_tensors,
    shared_tensors,
)
from twinscale.tfscale.train import make_evaluate, make_step, new_state, state_tensors, with_tensors


def numerics(recipe):
    """Keras' dtypes are set a layer at a time: there is nothing to switch."""
    return nullcontext()


def later(name):
    """A function of `tfscale.compress`, "FILE.FUNCTION", imported when it is called: a TPU has no TF-MOT."""
    file, function = name.split(".")

    def call(*args, **kwargs):
        try:
            module = import_module(f"twinscale.tfscale.compress.{file}")
        except ModuleNotFoundError as error:
            raise MissingEnvironment(missing(error.name, "compression with Keras needs it")
                                     + ", or take --backend jax") from None
        return getattr(module, function)(*args, **kwargs)

    return call


ROOM = Room(backend="keras", numerics=numerics, open_devices=open_devices, new_state=new_state, make_step=make_step,
            make_evaluate=make_evaluate, state_tensors=state_tensors, make_step_tensors=make_step_tensors,
            make_sketch=make_sketch, make_step_taps=make_step_taps, shared_tensors=shared_tensors,
            clip_gradients=clip_gradients, apply_gradients=apply_gradients, with_tensors=with_tensors, Store=Store,
            agree=agree, is_lost=is_lost, extremes=later("quantize.extremes"), make_masks=later("prune.make_masks"),
            fake_quantise=later("quantize.fake_quantise"))
ROOM = replace(ROOM, compressing=replace(ROOM, **{name: later(f"train.{name}") for name in (
    "new_state", "make_step", "make_evaluate", "make_step_tensors", "with_tensors")}))


def train(recipe, run_dir, **options):
    """Trains a recipe into a run directory; see `common.loop.run_training`."""
    return run_training(ROOM, recipe, run_dir, **options)
