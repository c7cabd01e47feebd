"""What a comparison asks of this backend alone: tensors of one step, shared tensors, the optimizer under given
gradients."""

import numpy as np
import tensorflow as tf

from common import bits as shared_bits
from common.recipe import master_dtype
from tfscale import bits
from tfscale.devices import add_up, place, run
from tfscale.optimizer import clip, rates
from tfscale.train import model_inputs, sum_gradients, update


def make_step_tensors(recipe, state, devices):
    """What one step computes before its update: (state, number, batch) to {"logits", "loss", "gradients/NAME": array}.

    NumPy arrays, in the order of computation. The gradients are of the mean loss, not clipped.
    """

    def replica_tensors(number, batch):
        key = bits.fold_in(tf.constant(shared_bits.key(recipe.seed)), number)
        model = state.model
        logits, _ = model.stateless_call(model.trainable_variables, model.non_trainable_variables,
                                         model_inputs(recipe, batch, key), training=True)
        gradients, _, sums = sum_gradients(recipe, state, number, batch)
        return logits, add_up(sums), add_up(gradients)

    @tf.function(jit_compile=devices.jit_compile, autograph=False)
    def compiled(number, batch):
        return run(devices, replica_tensors, number, batch)

    def step_tensors(state, number, batch):
        logits, sums, gradients = compiled(tf.constant(number, tf.uint32), place(devices, batch))
        named = dict(zip(state.trained, gradients, strict=True))
        return {"logits": logits.numpy(), "loss": (sums["loss"] / sums["weight"]).numpy(),
                **{f"gradients/{name}": (g / tf.cast(sums["weight"], g.dtype)).numpy() for name, g in named.items()}}

    return step_tensors


def shared_tensors(recipe):
    """{what: NumPy array} of what this backend draws and looks up by itself and must share bit for bit."""
    key = bits.fold_in(bits.fold_in(tf.constant(shared_bits.key(recipe.seed)), 1), shared_bits.name_word("contract"))
    drawn = bits.draw(key, tf.cast(tf.range(recipe.train.global_batch), tf.uint32), 1000)
    table = rates(recipe)(tf.range(recipe.train.steps))
    return {"learning rates": table.numpy().astype(master_dtype(recipe)), "random bits": drawn.numpy()}


def apply_gradients(recipe, state, devices, updates):
    """The state after one update for each {canonical name: float64 NumPy array} of `updates`."""

    @tf.function(jit_compile=devices.jit_compile, autograph=False)
    def compiled(gradients):
        def replica(gradients):
            update(recipe, state, clip([gradients[name] for name in state.trained], recipe.optimizer.clip_norm)[0])

        run(devices, replica, gradients)

    for gradients in updates:
        compiled({name: tf.constant(np.asarray(g, master_dtype(recipe))) for name, g in gradients.items()})
    return state
