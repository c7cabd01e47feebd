"""Magnitude pruning by TF-MOT; the semantics is written at `common.recipe.schema.Prune`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_schedule, pruning_wrapper

from twinscale.common.compress.rules import BLOCK, chosen, kernels, sparsity_at
from twinscale.common.errors import one_of

if TYPE_CHECKING:
    import tf_keras

    from twinscale.common.training.room import Tensors


def make_masks(stage: Any, update: int, tensors: "Tensors") -> "Tensors":
    """{name: mask} that a pruning stage makes at an update (from 1) of the kernels and tables it names among {canonical
    name: array}; NumPy arrays of their shapes and dtypes."""
    names = chosen(stage.names, kernels(tensors))
    weights = [tf.Variable(tensors[name]) for name in names]
    masks = [tf.Variable(tf.ones_like(weight)) for weight in weights]
    thresholds = [tf.Variable(tf.zeros((), weight.dtype)) for weight in weights]
    step, variables = tf.constant(update, tf.int64), list(zip(weights, masks, thresholds, strict=True))
    pruning_impl.Pruning(lambda: step, variables, **settings(stage)).conditional_mask_update()
    return {name: mask.numpy() for name, mask in zip(names, masks, strict=True)}


class Pruned(pruning_wrapper.PruneLowMagnitude):
    """TF-MOT's wrapper, which counts its calls: here it counts updates, as `updates_done()` says, for a tied table is
    called twice, and every micro-batch calls. A mask that is made again within an update is the same."""

    updates_done: Callable[[], tf.Tensor] | None = None

    def call(self, inputs: tf.Tensor, training: Any = None, **kwargs: Any) -> tf.Tensor:
        if self.updates_done and training:
            self.pruning_step.assign(tf.cast(self.updates_done(), tf.int64))
        return super().call(inputs, training=training, **kwargs)


def pruned(layer: "tf_keras.layers.Layer", stage: Any) -> Pruned:
    """A layer whose kernel or table a pruning stage prunes."""
    return Pruned(layer, dtype=layer.dtype_policy, **settings(stage))  # else it would cast float64 to float32


class Tabled(pruning_schedule.PolynomialDecay):
    """TF-MOT's schedule with its sparsity looked up: TensorFlow's graphs turn 1 - (a + b) into (1 - b) - a, which may
    round to another number of weights kept than the same schedule gives outside a graph."""

    def __init__(self, stage: Any) -> None:
        super().__init__(stage.initial, stage.sparsity, stage.begin, stage.last, stage.power, stage.every)
        self.table = np.array([sparsity_at(stage, update) for update in range(stage.steps + 1)])

    def __call__(self, step):
        due, _ = super().__call__(step)
        return due, tf.gather(tf.constant(self.table), tf.clip_by_value(step, 0, len(self.table) - 1))


def settings(stage: Any) -> dict[str, Any]:
    """TF-MOT's own for a pruning stage."""
    if stage.pattern == "2:4":  # made once, and of a half, whatever the schedule
        schedule = pruning_schedule.ConstantSparsity(0.5, 0)
    elif stage.steady:
        schedule = pruning_schedule.ConstantSparsity(stage.sparsity, stage.begin, frequency=stage.every)
    else:
        schedule = Tabled(stage)
    patterns = {"unstructured": ((1, 1), None), "2:4": ((1, 1), (2, BLOCK)), "4x4": ((BLOCK, BLOCK), None)}
    block, of = one_of(patterns, stage.pattern, "prune: pattern")
    return {"pruning_schedule": schedule, "block_size": block, "sparsity_m_by_n": of,
            "block_pooling_type": one_of({"average": "AVG", "max": "MAX"}, stage.pooling, "prune: pooling")}
