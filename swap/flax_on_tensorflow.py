"""The Flax program on TensorFlow: what `jaxscale` would give to `jax.jit`, lowered by jax2tf to one operation of a
TensorFlow graph, which TensorFlow's own XLA compiles and runs.

A process that answers calls, see `common/calls/worker.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import tensorflow as tf

from twinscale.common.calls.worker import serve
from twinscale.jaxscale import trace
from twinscale.jaxscale.devices import open_devices
from twinscale.jaxscale.mutants import MUTANTS, NEUTRAL
from twinscale.jaxscale.room import numerics
from twinscale.jaxscale.train import new_state, state_tensors
from twinscale.swap.converted import converted
from twinscale.swap.room import PartialRoom


def on_tensorflow(function: Callable[..., Any], **shardings: Any) -> Callable[..., Any]:
    """In the place of `jax.jit`, for a pure function of trees of arrays: the same function, from and to NumPy arrays.

    Shardings are not kept: it runs on TensorFlow's first device.
    """

    @functools.cache
    def compiled(tree):
        def flat(leaves):
            found, trees[tree] = jax.tree.flatten(function(*jax.tree.unflatten(tree, leaves)))
            return found

        return tf.function(converted(flat), autograph=False)

    trees = {}  # of the results, by that of the arguments

    def call(*arguments):
        leaves, tree = jax.tree.flatten(arguments)
        found = compiled(tree)([tf.constant(np.asarray(x)) for x in leaves])
        return jax.tree.unflatten(trees[tree], [x.numpy() for x in found])

    return call


ROOM = PartialRoom("flax on tensorflow", ("first_step", "step_taps", "optimizer_steps"), numerics=numerics,
                    open_devices=open_devices, new_state=new_state, state_tensors=state_tensors,
                    **{name: functools.partial(getattr(trace, name), jit=on_tensorflow)
                       for name in ("make_step_tensors", "make_step_taps", "apply_gradients", "clip_gradients")})

if __name__ == "__main__":
    serve(ROOM, MUTANTS | NEUTRAL, {})
