"""What a comparison asks of this backend alone: tensors of one step, shared tensors, the optimizer under given
gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from common import bits as shared_bits
from common.recipe import master_dtype
from jaxscale import bits
from jaxscale.devices import place
from jaxscale.models import by_path, canonical_variables, merge
from jaxscale.optimizer import clip, rates
from jaxscale.train import model_inputs, sum_gradients, update


def make_step_tensors(recipe, state, devices):
    """What one step computes before its update: (state, number, batch) to {"logits", "loss", "gradients/NAME": array}.

    NumPy arrays, in the order of computation. The gradients are of the mean loss, not clipped.
    """

    def compute(state, number, batch):
        key = bits.fold_in(jnp.asarray(shared_bits.key(recipe.seed)), number)
        variables = {path: nnx.Param(x) for path, x in state.weights.items()}
        model = merge(state.graph, variables | {path: nnx.BatchStat(x) for path, x in state.running.items()})
        logits = model(model_inputs(recipe, batch, key), training=True)
        gradients, _, sums = sum_gradients(recipe, state, number, batch)
        return logits, sums, gradients

    compiled = jax.jit(compute, in_shardings=(devices.state, None, devices.batch), out_shardings=devices.state)
    def step_tensors(state, number, batch):
        logits, sums, gradients = compiled(state, jnp.int32(number), place(devices, batch))
        weight, named = np.asarray(sums["weight"]), canonical_variables(gradients)
        return {"logits": np.asarray(logits), "loss": np.asarray(sums["loss"] / sums["weight"]),
                **{f"gradients/{name}": np.asarray(g) / weight.astype(g.dtype) for name, g in named.items()}}

    return step_tensors


def shared_tensors(recipe):
    """{what: NumPy array} of what this backend draws and looks up by itself and must share bit for bit."""
    key = bits.fold_in(bits.fold_in(jnp.asarray(shared_bits.key(recipe.seed)), 1), shared_bits.name_word("contract"))
    drawn = bits.draw(key, jnp.arange(recipe.train.global_batch, dtype=jnp.uint32), 1000)
    table = jax.vmap(rates(recipe))(jnp.arange(recipe.train.steps))
    return {"learning rates": np.asarray(table, master_dtype(recipe)), "random bits": np.asarray(drawn)}


def apply_gradients(recipe, state, devices, updates):
    """The state after one update for each {canonical name: float64 NumPy array} of `updates`."""

    @jax.jit
    def compiled(state, gradients):
        return update(recipe, state, clip(gradients, recipe.optimizer.clip_norm)[0])

    for gradients in updates:
        stacked = {path: by_path(path, gradients.__getitem__, recipe.model) for path in state.weights}
        state = compiled(state, {path: np.asarray(g, master_dtype(recipe)) for path, g in stacked.items()})
    return state
