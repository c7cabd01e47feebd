"""Trains a stage of a compression: `tfscale/train.py` over a model that TF-MOT has wrapped, or with a teacher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.compress.recipes import active
from twinscale.common.families.parameters import initial_values, is_trained, parameters
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.tfscale import batch_loss, bits, train
from twinscale.tfscale.compress.distil import distil_objective, teacher_recipe
from twinscale.tfscale.compress.model import adopted, twin_variables, wrapped_model
from twinscale.tfscale.compress.prune import Pruned
from twinscale.tfscale.devices_arrays import add_up, first, place, rows_of, run
from twinscale.tfscale.models import build, canonical_variables
from twinscale.tfscale.optimizer import make_optimizer, reset
from twinscale.tfscale.train import state_arrays

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.training.room import Batch, Step, Tensors
    from twinscale.tfscale.devices import Devices


@dataclass(frozen=True)
class State(train.State):
    """A stage's: its model is tf_keras's, or it has a teacher."""

    named: dict
    teacher: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        return self.named

    @property
    def running(self) -> list[Any]:
        """Of a wrapped model all that its forward pass may move, for it moves it at once."""
        return super().running if self.teacher else list(self.named.values())


def new_state(recipe: Recipe, dataset: "Dataset", devices: "Devices", dither: float = 0.0, old: "State | None" = None
              ) -> State:
    """The state before a stage is given what it starts from: canonical first values, masks of ones, zeros.

    With `old`, a state of the same recipe, its variables are used again, so that steps compiled over them go on.
    """
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    first = initial_values(tree, recipe.seed, master_dtype(recipe), dither)
    with devices.strategy.scope():
        state = old or (with_teacher if active(recipe).kind == "distil" else wrapped)(recipe, dataset)
    for name, variable in state.variables.items():
        variable.assign(first.get(name, (np.ones if name.endswith("_mask") else np.zeros)(variable.shape)))
    reset(state.optimizer)
    return state


def wrapped(recipe: Recipe, dataset: "Dataset") -> State:
    """The state of a stage whose model TF-MOT wraps."""
    model = wrapped_model(recipe, dataset)
    variables = adopted(twin_variables(recipe, dataset, model))
    optimizer = make_optimizer(recipe, {name: v for name, v in variables.items() if is_trained(name)})
    for layer in model.layers:
        if isinstance(layer, Pruned):
            layer.updates_done = lambda: optimizer.iterations
    return State(model, optimizer, [], variables)


def with_teacher(recipe: Recipe, dataset: "Dataset") -> State:
    """The state of a stage that distils."""
    model, teacher = (build(r, dataset.classes, dataset.example_shape, keras) for r in (recipe, teacher_recipe(recipe)))
    variables = canonical_variables(model)
    optimizer = make_optimizer(recipe, {name: v for name, v in variables.items() if is_trained(name)})
    taught = {f"teacher.{name}": v for name, v in canonical_variables(teacher).items()}
    return State(model, optimizer, [], variables | taught, teacher)


def make_step(recipe: Recipe, state: State, devices: "Devices") -> "Step":
    """As `tfscale.train.make_step`."""
    if state.teacher:
        return train.make_step(recipe, state, devices, partial(train.sum_gradients, objective=distil_objective))
    zero = [v for name, v in state.trained.items() if name.endswith("_centroids")
            and f"{name.removesuffix('_centroids')}_mask" in state.variables]

    def move(gradients, before):
        kept = [tf.cast(tf.convert_to_tensor(v) != 0, v.dtype) for v in zero]
        train.update(recipe, state, gradients)
        for variable, nonzero in zip(zero, kept, strict=True):  # TF-MOT does it on the next forward pass
            variable.assign(variable * nonzero)

    def stay(before):
        put_back(state, before)

    return train.make_step(recipe, state, uncompiled(devices),
                           partial(train.sum_gradients, objective=wrapped_objective), move, stay)


def uncompiled(devices: "Devices") -> "Devices":
    """The devices without XLA: TensorFlow's own kernel of fake quantisation is the reference, and XLA's another."""
    return replace(devices, jit_compile=False)


def wrapped_objective(recipe: Recipe, state: State, before: Sequence[tf.Tensor], batch: Mapping[str, tf.Tensor],
                      key: tf.Tensor) -> tuple[tf.Tensor, Sequence[tf.Tensor], dict[str, tf.Tensor]]:
    """As `tfscale.train.plain_objective`, of a wrapped model, which moves masks, ranges and the like at once: `before`,
    the values until then, is handed on as it is."""
    objective, sums = batch_loss.loss_sums(recipe, wrapped_logits(recipe, state, batch, key), batch)
    return objective, before, sums


def wrapped_logits(recipe: Recipe, state: State, batch: Mapping[str, tf.Tensor], key: tf.Tensor) -> tf.Tensor:
    """What a wrapped model computes in training; after training, 8 bits move nothing."""
    return state.model(batch_loss.model_inputs(recipe, batch, key), training=active(recipe).kind != "post_training")


def put_back(state: State, before: Sequence[tf.Tensor]) -> None:
    """Undoes what a forward pass has moved."""
    for variable, value in zip(state.running, before, strict=True):
        variable.assign(value)


def make_evaluate(recipe: Recipe, state: State, devices: "Devices"
                  ) -> "Callable[..., dict[str, float]]":
    """As `tfscale.train.make_evaluate`."""
    if state.teacher:
        return train.make_evaluate(recipe, state, devices)
    evaluate = train.make_evaluate(recipe, state, uncompiled(devices), lambda x: state.model(x, training=False))
    masked = [v for name, v in state.trained.items() if active(recipe).kind == "prune"
              and f"{name}_mask" in state.variables]

    def unmoved(state, batches, keep=None):
        before = [v.numpy() for v in masked]  # TF-MOT puts the masked weights in place in evaluation too
        sums = evaluate(state, batches, keep)
        for variable, value in zip(masked, before, strict=True):
            variable.assign(value)
        return sums

    return unmoved


def with_tensors(recipe: Recipe, state: Any, devices: "Devices", tensors: "Tensors", step: int) -> train.State:
    """As `tfscale.train.with_tensors`; where slots are not given, they are as before the first update."""
    if all(name.startswith("weights/") for name in tensors):
        tensors = tensors | {name: np.full(v.shape, state.optimizer.held[name.partition("/")[0]].first)
                             for name, v in state_arrays(state).items() if not name.startswith("weights/")}
    return train.with_tensors(recipe, state, devices, tensors, step)


def make_step_tensors(recipe: Recipe, state: State, devices: "Devices") -> "Callable[[State, int, Batch], Tensors]":
    """As `tfscale.trace.make_step_tensors`."""
    objective = distil_objective if state.teacher else wrapped_objective

    def replica_tensors(number, batch):
        key = bits.step_key(recipe.seed, number)
        before = [tf.convert_to_tensor(v) for v in state.running]
        logits = wrapped_logits(recipe, state, batch, key)
        put_back(state, before)
        gradients, _, sums = train.sum_gradients(recipe, state, number, batch, objective)
        put_back(state, before)
        return logits, add_up(sums), add_up(gradients)

    @tf.function(autograph=False)
    def compiled(number, batch):
        return run(devices, replica_tensors, number, batch)

    def step_tensors(state, number, batch):
        logits, sums, gradients = compiled(tf.constant(number, tf.uint32), place(devices, batch))
        sums, gradients = first(devices, (sums, gradients))
        named = dict(zip(state.trained, gradients, strict=True))
        return {"logits": rows_of(devices, logits), "loss": (sums["loss"] / sums["weight"]).numpy(),
                **{f"gradients/{name}": (g / tf.cast(sums["weight"], g.dtype)).numpy() for name, g in named.items()}}

    return step_tensors
