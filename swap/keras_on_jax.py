"""The Keras program on JAX: the models of `tfscale` and its loss on Keras' JAX runtime, gradients by `jax.grad`.

A process that answers calls, see `common/calls/worker.py`; it has to start with KERAS_BACKEND=jax.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from twinscale.common.calls.worker import serve
from twinscale.common.errors import MissingEnvironment
from twinscale.common.families.adapters import tree_of
from twinscale.common.families.parameters import initial_values, is_trained
from twinscale.common.families.places import places
from twinscale.common.files.tensors import named_arrays
from twinscale.common.planted.mutants import CHANGES
from twinscale.common.recipe.schema import master_dtype
from twinscale.jaxscale.devices_compile import hasten
from twinscale.jaxscale.room import numerics
from twinscale.jaxscale.trace import named_tensors, taps_of
from twinscale.swap.room import PartialRoom
from twinscale.tfscale import batch_loss, bits
from twinscale.tfscale.adapters import adapted
from twinscale.tfscale.models import build, canonical_variables
from twinscale.tfscale.mutants_program import PORTABLE
from twinscale.tfscale.operations import implementations, use_stock
from twinscale.tfscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Batch, StepTaps, Tensors


def new_state(recipe: "Recipe", dataset: "Dataset", devices: Any, dither: float = 0.0, old: "keras.Model | None" = None
              ) -> keras.Model:
    """The model with its first values; with `old`, a model of the same recipe, that one."""
    model = old or build(recipe, dataset.classes, dataset.example_shape, keras)
    tree, variables = tree_of(recipe, dataset.classes, dataset.example_shape), canonical_variables(model)
    for name, value in initial_values(tree, recipe.seed, master_dtype(recipe), dither).items():
        variables[name].assign(value)
    return model


def state_tensors(model: keras.Model) -> "Tensors":
    """{"weights/NAME": NumPy array}."""
    return {f"weights/{name}": np.asarray(v.value) for name, v in canonical_variables(model).items()}


def values_of(model: keras.Model) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """(weights, running statistics): {canonical name: array} each."""
    values = {name: v.value for name, v in canonical_variables(model).items()}
    weights = {name: x for name, x in values.items() if is_trained(name)}
    return weights, {name: x for name, x in values.items() if name not in weights}


def objective_of(recipe: "Recipe", model: keras.Model
                 ) -> Callable[..., tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]]]:
    """(weights, running, number, batch, hook) to (the summed loss, (its statistics, running statistics after, logits));
    weights and running statistics by canonical name, the hook as in `tfscale.taps.tapped`."""
    variables = canonical_variables(model)

    def objective(weights, running, number, batch, hook):
        key = bits.step_key(recipe.seed, number)
        given = [(variables[name], x) for name, x in (adapted(recipe, weights, key) | running).items()]
        with keras.StatelessScope(given) as scope, tapped(model, hook):
            logits = model(batch_loss.model_inputs(recipe, batch, key), training=True)
        total, sums = batch_loss.loss_sums(recipe, logits, batch)
        return total, (sums, {name: scope.get_current_value(variables[name]) for name in running}, logits)

    return objective


def make_step_tensors(recipe: "Recipe", model: keras.Model, devices: Any
                      ) -> "Callable[[keras.Model, int, Batch], Tensors]":
    """As `tfscale.trace.make_step_tensors`."""
    objective = objective_of(recipe, model)

    def untapped(*arguments):
        return objective(*arguments, lambda place, x: x)

    @jax.jit
    def compute(weights, running, number, batch):
        def one(running, part):
            gradients, (sums, running, _) = jax.grad(untapped, has_aux=True)(weights, running, number, part)
            return running, (sums, gradients)

        _, (_, _, logits) = untapped(weights, running, number, batch)
        parts = {name: x.reshape(recipe.train.accumulate, -1, *x.shape[1:]) for name, x in batch.items()}
        sums, gradients = jax.tree.map(lambda x: x.sum(0), jax.lax.scan(one, running, parts)[1])
        return logits, sums, gradients

    def step_tensors(model, number, batch):
        return named_tensors(*compute(*values_of(model), jnp.uint32(number), batch))

    return step_tensors


def make_step_taps(recipe: "Recipe", dataset: "Dataset", model: keras.Model, devices: Any) -> "StepTaps":
    """As `tfscale.trace.make_step_taps`."""
    objective = objective_of(recipe, model)

    def without_logits(*arguments):
        total, (sums, running, _) = objective(*arguments)
        return total, (sums, running)

    compute = jax.jit(taps_of(without_logits, places(recipe.model)))

    def step_taps(model, number, batch, teacher=None):
        return named_arrays(compute(*values_of(model), jnp.uint32(number), batch, teacher))

    return step_taps


ONE = SimpleNamespace(host=0, hosts=1)
ROOM = PartialRoom("keras on jax", ("first_step", "step_taps"), numerics=numerics, open_devices=lambda recipe: ONE,
                    new_state=new_state, state_tensors=state_tensors,
                    make_step_tensors=make_step_tensors, make_step_taps=make_step_taps)

if __name__ == "__main__":
    if keras.backend.backend() != "jax":
        raise MissingEnvironment(f"Keras runs on {keras.backend.backend()}: start this process with KERAS_BACKEND=jax")
    serve(ROOM, CHANGES | PORTABLE,
          {"hasten": hasten, "stock": use_stock, "implementations": implementations})
