"""What this backend gives to `common/loop.py` and its like."""

from contextlib import contextmanager
from dataclasses import replace

import jax

from twinscale.common.errors import one_of
from twinscale.common.loop import run_training
from twinscale.common.session import Room
from twinscale.jaxscale.checkpoint import Store
from twinscale.jaxscale.compress import train as stage
from twinscale.jaxscale.compress.prune import make_masks
from twinscale.jaxscale.compress.quantize import extremes, fake_quantise
from twinscale.jaxscale.devices import open_devices
from twinscale.jaxscale.devices_hosts import agree, is_lost
from twinscale.jaxscale.trace import (
    apply_gradients,
    clip_gradients,
    make_sketch,
    make_step_taps,
    make_step_tensors,
    shared_tensors,
)
from twinscale.jaxscale.train import make_evaluate, make_step, new_state, state_tensors, with_tensors


@contextmanager
def numerics(recipe):
    """JAX has float64 only where it is switched on, and on accelerators rounds the factors of float32 products unless
    told otherwise."""
    precision = one_of({"bfloat16": "default", "float32": "highest", "float64": "highest"}, recipe.train.precision,
                       "train.precision")
    with jax.enable_x64(recipe.train.precision == "float64"), jax.default_matmul_precision(precision):
        yield


ROOM = Room(backend="jax", numerics=numerics, open_devices=open_devices, new_state=new_state, make_step=make_step,
            make_evaluate=make_evaluate, state_tensors=state_tensors, make_step_tensors=make_step_tensors,
            make_sketch=make_sketch, make_step_taps=make_step_taps, shared_tensors=shared_tensors,
            clip_gradients=clip_gradients, apply_gradients=apply_gradients, with_tensors=with_tensors, Store=Store,
            agree=agree, is_lost=is_lost, extremes=extremes, make_masks=make_masks, fake_quantise=fake_quantise)
ROOM = replace(ROOM, compressing=replace(
    ROOM, new_state=stage.new_state, make_step=stage.make_step, make_evaluate=stage.make_evaluate,
    with_tensors=stage.with_tensors, make_step_tensors=stage.make_step_tensors))


def train(recipe, run_dir, **options):
    """Trains a recipe into a run directory; see `common.loop.run_training`."""
    return run_training(ROOM, recipe, run_dir, **options)
