"""The optimizers of a recipe as optax transforms; the one semantics is written at `common.recipe.Optimizer`.

Own code stands only where optax's semantics cannot be set, and says why.
"""

import jax
import jax.numpy as jnp
import optax

from twinscale.common.errors import one_of
from twinscale.common.parameters import is_decayed
from twinscale.common.recipe import master_dtype
from twinscale.common.schedules import learning_rates


def make_optimizer(recipe):
    """An optax transform over {path: array}; the gradients it is given are already clipped."""
    o = recipe.optimizer
    rate = optax.scale_by_learning_rate(rates(recipe))
    decay = optax.add_decayed_weights(o.weight_decay, mask=lambda weights: {path: is_decayed(path) for path in weights})
    adam = optax.scale_by_adam(o.beta1, o.beta2, o.epsilon)
    parts = {"adamw": lambda: (adam, decay), "lamb": lambda: (adam, decay, trust_ratio()),
             "sgd": lambda: (optax.trace(o.momentum, o.nesterov) if o.momentum else optax.identity(), decay),
             "lion": lambda: (optax.scale_by_lion(o.beta1, o.beta2), decay)}
    return optax.chain(*one_of(parts, o.name, "optimizer.name")(), rate)


def rates(recipe):
    """The shared table of learning rates as a schedule: updates done (an integer) to the rate of the next."""
    table = learning_rates(recipe)
    return lambda count: jnp.asarray(table, master_dtype(recipe))[count]


def slots(optimizer_state):
    """{slot: {path: array}}; the names are those of the canonical semantics."""
    first = optimizer_state[0]
    found = {"m": getattr(first, "mu", getattr(first, "trace", None)), "v": getattr(first, "nu", None)}
    return {slot: tensors for slot, tensors in found.items() if tensors is not None}


def clip(gradients, limit):
    """Gradients within a global norm of `limit` (0: unclipped), and the norm before. As the semantics has it: optax's
    own differs by the order of its rounding."""
    norm = optax.tree.norm(gradients)
    if limit:
        scale = jnp.minimum(jnp.ones_like(norm), limit / norm)
        gradients = jax.tree.map(lambda g: g * scale, gradients)
    return gradients, norm


def average(averages, weights, decay):
    """One step of the weights' moving average, from the first weights and without debiasing."""
    return optax.incremental_update(weights, averages, 1 - decay)


def trust_ratio():
    """LAMB's |w| / |u| for each canonical tensor: optax would take blocks stacked under a scan for one tensor."""

    def ratio(path, update, weight):
        axes = tuple(range(path.startswith("blocks."), update.ndim))
        w, u = (jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True)) for x in (weight, update))
        return update * jnp.where((w > 0) & (u > 0), w / jnp.where(u > 0, u, 1), 1)

    return optax.stateless(lambda updates, weights: {path: ratio(path, updates[path], weights[path])
                                                     for path in updates})
