"""Trains a stage of a compression: the trainer's own step, with weights and places made into what they compute with.

Semantics are TF-MOT's: masks, centroids and ranges are read and moved as `common/compress/rules.py` and the stages in
`common/recipe/compress.py` say.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import extra_tensors
from twinscale.common.optimizers import described
from twinscale.jaxscale import batch_loss, bits, train
from twinscale.jaxscale.compress.cluster import clustered, with_zeros
from twinscale.jaxscale.compress.distil import distil_objective, teacher_recipe
from twinscale.jaxscale.compress.prune import masks_due
from twinscale.jaxscale.compress.quantize import on_grid, quantising, symmetric_range
from twinscale.jaxscale.devices_arrays import laid_out, place
from twinscale.jaxscale.framework import Flax
from twinscale.jaxscale.models import build
from twinscale.jaxscale.taps import tapped
from twinscale.jaxscale.trace import named_tensors

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Batch, Step, Tensors
    from twinscale.jaxscale.devices import Devices


def new_state(recipe: "Recipe", dataset: "Dataset", devices: "Devices", dither: float = 0.0,
              old: "train.State | None" = None) -> train.State:
    """The state of a stage's recipe where each tensor lies, for `with_tensors` to fill: the model's first values, and
    zeros for what a stage has besides."""
    extra = tuple((name, tuple(shape)) for name, shape in extra_tensors(recipe, dataset).items())
    state: Any = train.new_state(recipe, dataset, devices, dither, old, Flax(extra))
    if active(recipe).kind != "distil":
        return state
    graph = old.teacher if old else build(teacher_recipe(recipe), dataset.classes, dataset.example_shape)[0]
    return state.replace(teacher=graph)


def make_step(recipe: "Recipe", state: train.State, devices: "Devices") -> "Step":
    """As `jaxscale.train.make_step`, of a stage's recipe."""
    return train.make_step(recipe, state, devices, begin, gradients_of, move)


def make_evaluate(recipe: "Recipe", state: train.State, devices: "Devices"
                  ) -> "Callable[..., dict[str, float]]":
    """As `jaxscale.train.make_evaluate`, of a stage's recipe: the model as the stage would leave it."""
    return train.make_evaluate(recipe, state, devices, logits_of)


def with_tensors(recipe: "Recipe", state: Any, devices: "Devices", tensors: "Tensors", step: int
                 ) -> train.State:
    """As `jaxscale.train.with_tensors`; where `tensors` has no slots of the optimizer, they are as before the first
    update."""
    first = {slot: where.first for slot, where in described(recipe.optimizer).slots(recipe.optimizer).items()}
    slots = {name: np.full(x.shape, first.get(name.partition("/")[0], 0.0), x.dtype)
             for name, x in jax.eval_shape(train.state_arrays, state).items() if not name.startswith("weights/")}
    begun = slots.keys() & tensors.keys()
    return train.with_tensors(recipe, state, devices, tensors if begun else slots | tensors, step)


def make_step_tensors(recipe: "Recipe", state: train.State, devices: "Devices"
                      ) -> "Callable[[train.State, int, Batch], Tensors]":
    """As `jaxscale.trace.make_step_tensors`, of a stage's recipe."""

    def compute(state, number, batch):
        key, count = bits.step_key(recipe.seed, number), recipe.train.accumulate
        parts = {name: x.reshape(count, -1, *x.shape[1:]) for name, x in batch.items()} if count > 1 else batch
        with laid_out(devices):
            state = begin(recipe, state)
            inputs = batch_loss.model_inputs(recipe, batch, key)
            logits, _ = logits_of(recipe, state.graph, state.weights, state.running, inputs, training=True)
            gradients, _, sums = gradients_of(recipe, state, number, parts)
        return logits, sums, gradients

    compiled = jax.jit(compute, in_shardings=(train.state_shardings(state, devices), None, devices.rows),
                       out_shardings=devices.whole)

    def step_tensors(state, number, batch):
        return named_tensors(*compiled(state, jnp.int32(number), place(devices, batch)))

    return step_tensors


def begin(recipe: "Recipe", state: Any) -> train.State:
    """The state that a step goes by: masks made where they are due, and pruned weights at zero. What is masked here has
    a dense gradient, as under TF-MOT, which assigns the product."""
    stage, weights, running = active(recipe), state.weights, state.running
    if stage.kind == "prune":
        masks = {name: running[f"{name}_mask"] for name in weights if f"{name}_mask" in running}
        masks = masks_due(stage, state.step, {name: weights[name] for name in masks}, masks)
        running = running | {f"{name}_mask": mask for name, mask in masks.items()}
    masked = {name: weights[name] * running[f"{name}_mask"] for name in assigned(recipe, weights, running)}
    return state.replace(weights=weights | masked, running=running)


def assigned(recipe: "Recipe", weights: Mapping[str, jax.Array], running: Mapping[str, jax.Array]) -> list[str]:
    """The names of the weights that a step begins by masking."""
    kind = active(recipe).kind
    return [name for name in weights if f"{name}_mask" in running and (
        kind == "prune" or kind == "quantize" and f"{name}_centroids" in weights)]


def gradients_of(recipe: "Recipe", state: train.State, number: jax.Array, batch: Mapping[str, jax.Array]
                 ) -> tuple[dict[str, jax.Array], dict[str, jax.Array], dict[str, jax.Array]]:
    """As `jaxscale.train.sum_gradients`, of a stage's recipe."""
    objective = distil_objective if active(recipe).kind == "distil" else staged_objective
    return train.sum_gradients(recipe, state, number, batch, objective)


def staged_objective(recipe: "Recipe", state: train.State, weights: Mapping[str, jax.Array],
                     running: dict[str, jax.Array], batch: Mapping[str, jax.Array], key: jax.Array
                     ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, jax.Array]]]:
    """As `jaxscale.train.plain_objective`, of a stage's model."""
    inputs = batch_loss.model_inputs(recipe, batch, key)
    logits, running = logits_of(recipe, state.graph, weights, running, inputs, training=True)
    total, sums = batch_loss.loss_sums(recipe, logits, batch)
    return total, (running, sums)


def logits_of(recipe: "Recipe", graph: nnx.GraphDef, weights: Mapping[str, jax.Array], running: dict[str, jax.Array],
              inputs: dict[str, jax.Array], training: bool = False) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(logits, all of `running` after them) of a stage's model."""
    training = training and active(recipe).kind != "post_training"  # whose one step moves nothing
    tensors, moved = model_tensors(recipe, weights, running, training)
    logits, after = through_places(recipe, graph, tensors, running, inputs, training)
    return logits, running | moved | after


def through_places(recipe: "Recipe", graph: nnx.GraphDef, tensors: Mapping[str, jax.Array],
                   running: Mapping[str, jax.Array], inputs: dict[str, jax.Array], training: bool = False
                   ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """(logits, {name: tensor} of `running` that moved) of a stage's model with the tensors that it computes with."""
    statistics = {name: x for name, x in running.items() if name.endswith((".mean", ".var"))
                  and not name.startswith("teacher.")}
    if active(recipe).kind not in ("quantize", "post_training"):
        return train.forward(recipe, graph, tensors, statistics, inputs, training)
    moved = {}
    hook = quantising(recipe, running, training, moved)
    with tapped(None, hook):
        inputs = inputs | {"inputs": hook("inputs", inputs["inputs"])}
        logits, after = train.forward(recipe, graph, tensors, statistics, inputs, training)
    return logits, moved | after


def model_tensors(recipe: "Recipe", weights: Mapping[str, jax.Array], running: dict[str, jax.Array], training: bool
                  ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """({name: tensor} that the model computes with, {name: tensor} of `running` that moved in training)."""
    made, moved = {}, {}
    already = assigned(recipe, weights, running) if training else ()
    for name, x in weights.items():
        if name.endswith("_centroids"):
            continue
        if f"{name}_mask" in running and name not in already:
            x = x * running[f"{name}_mask"]
        if f"{name}_clustered" in running and not training:
            x = running[f"{name}_clustered"]
        elif f"{name}_centroids" in weights:
            x = clustered(x, weights[f"{name}_centroids"])
            if f"{name}_clustered" in running:
                moved[f"{name}_clustered"] = x
        if f"{name}_range" in running:
            if training:
                moved[f"{name}_range"] = symmetric_range(x)
            x = on_grid(x, *(running | moved)[f"{name}_range"], True)
        made[name] = x
    return made, moved


def move(recipe: "Recipe", state: train.State, gradients: Mapping[str, jax.Array]) -> train.State:
    """As `jaxscale.train.update`, of a stage's recipe."""
    moved: Any = train.update(recipe, state, gradients)
    return moved.replace(weights=with_zeros(state.weights, moved.weights, state.running))

