"""The train step as XLA takes it: lowered for one device from shapes alone, with no weight's value ever made.

As a process (`python -m twinscale.tfscale.lower`) it answers the calls of `benchmarks/preflight/`.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.calls.worker import serve
from twinscale.common.families.parameters import is_trained
from twinscale.common.recipe.schema import Recipe
from twinscale.tfscale.devices import Devices
from twinscale.tfscale.models import build, canonical_variables
from twinscale.tfscale.optimizer import make_optimizer
from twinscale.tfscale.room import ROOM
from twinscale.tfscale.train import State, compiled_step

ALIGNED = 64  # bytes that TensorFlow wants an array of others to begin at a multiple of

def new_shapes(recipe: Recipe, classes: int, example_shape: Sequence[int], devices: Devices) -> State:
    """The state before the first step as `tfscale.train.new_state` makes it, but for its values: TensorFlow lowers no
    variable without one, so each has zeros that take no memory."""

    def empty(make, **given):
        if not callable(given["initial_value"]):
            return make(**given)
        with tf.Graph().as_default():  # where nothing is computed
            first = given["initial_value"]()
        return make(**given | {"initial_value": untouched(first.shape, first.dtype)})

    with devices.strategy.scope(), tf.variable_creator_scope(empty):
        model = build(recipe, classes, example_shape, keras, trained=True)
        trained = {name: v for name, v in canonical_variables(model).items() if is_trained(name)}
        optimizer = make_optimizer(recipe, trained)
        averages = [tf.Variable(untouched(v.shape, tf.as_dtype(v.dtype)), trainable=False) for v in trained.values()
                    if recipe.optimizer.ema]
    return State(model, optimizer, averages)


def untouched(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """A tensor of zeros whose pages the system hands out only when somebody reads or writes them."""
    kind = dtype.as_numpy_dtype
    spare = ALIGNED // np.dtype(kind).itemsize
    flat = np.zeros(math.prod(shape) + spare, kind)
    start = -flat.ctypes.data % ALIGNED // flat.itemsize
    return tf.reshape(tf.experimental.dlpack.from_dlpack(flat[start:len(flat) - spare + start].__dlpack__()), shape)


def lower_step(recipe: Recipe, classes: int, example_shape: Sequence[int],
               batch: Mapping[str, tuple[tuple[int, ...], str]], devices: Devices) -> bytes:
    """The step of `tfscale.train.compiled_step` as a serialized HLO module of one device. Its arguments are the step's
    number, the batch's arrays in order, what hosts say (B, 3), then every variable.

    Args:
      batch: {name: (shape (B, ...), dtype)} of a global batch.
    """
    state = new_shapes(recipe, classes, example_shape, devices)
    inside = compiled_step(recipe, state, devices)
    specs = {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in batch.items()}
    specs["signals"] = tf.TensorSpec((recipe.train.global_batch, 3), tf.float32)

    @tf.function(jit_compile=True, autograph=False)
    def flat(number, *arrays):
        return inside(number, dict(zip(specs, arrays, strict=True)))

    written = flat.experimental_get_compiler_ir(tf.TensorSpec((), tf.uint32), *specs.values())
    return written(stage="hlo_serialized")


def lower(recipe: Any, classes: int, example_shape: Sequence[int], batch: Mapping[str, tuple[tuple[int, ...], str]],
          lowered: str) -> dict[str, Any]:
    """Writes the lowered step of a recipe to the path `lowered`: {"rows": numbers of the arguments that are a batch's,
    "seconds"}."""
    recipe, start = Recipe.model_validate(recipe), time.perf_counter()
    tf.config.experimental.enable_tensor_float_32_execution(False)  # as `tfscale.devices.open_devices` does
    strategy = tf.distribute.OneDeviceStrategy("/device:CPU:0")
    # A TPU's steps are compiled whatever the recipe says.
    devices = Devices(strategy, list(strategy.extended.worker_devices), True, recipe.train.accumulate)
    Path(lowered).write_bytes(lower_step(recipe, classes, tuple(example_shape), batch, devices))
    return {"rows": list(range(1, len(batch) + 2)), "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    serve(ROOM, {}, {"lower": lower})
