"""What a batch's loss is: what the model reads, and the objective over what it makes of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from twinscale.common import losses
from twinscale.common.data import example_shape_of, input_specs
from twinscale.common.objectives import described
from twinscale.common.registry import resolved

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def model_inputs(recipe: "Recipe", batch: Mapping[str, Any], key: jax.Array) -> dict[str, jax.Array]:
    """What the model reads of a batch."""
    batch = {**batch, "key": key}
    specs = input_specs(recipe, example_shape_of(recipe, batch))
    return {name: batch[name].astype(dtype) for name, (_, dtype) in specs.items()}


def loss_sums(recipe: "Recipe", logits: jax.Array, batch: Mapping[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective summed over weighted positions, and the sums of {"loss", "weight"} and, of classes, "correct"."""
    weights = batch["weights"].astype(logits.dtype)
    what, loss = described(recipe), resolved(described(recipe).jax)

    def of_both(measure):
        return losses.of_both(jnp, batch, lambda x: x.astype(logits.dtype), measure)

    each = of_both(lambda labels: losses.by_weight(jnp, loss(recipe, logits, labels), weights))
    objective = jnp.sum(weights * each)
    if what.judged:
        return objective, {"loss": objective, "weight": jnp.sum(weights)}
    best = jnp.argmax(logits, -1)
    hits = of_both(lambda labels: jnp.where(best == labels, weights, 0))
    return objective, {"loss": objective, "correct": jnp.sum(hits), "weight": jnp.sum(weights)}


def cross_entropy(recipe: "Recipe", logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each position: against (1 - s) one-hot + s / classes (label smoothing s), plus z_loss logsumexp^2."""
    smoothing, z_loss = recipe.train.label_smoothing, recipe.train.z_loss
    each = negative_log_likelihood(logits, labels)
    if smoothing:
        uniform = jax.nn.logsumexp(logits, -1) - jnp.mean(logits, -1)
        each = (1 - smoothing) * each + smoothing * uniform
    if z_loss:
        each += z_loss * jnp.square(jax.nn.logsumexp(logits, -1))
    return each


def negative_log_likelihood(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits) of each label, (...) of (..., V). A label is found by comparison: a gather, as optax has it,
    fuses with nothing, and a TPU would keep the logits in float32 beside those in bfloat16."""
    there = jnp.arange(logits.shape[-1]) == labels[..., None]
    return jax.nn.logsumexp(logits, -1) - jnp.sum(jnp.where(there, logits, 0), -1)


def probe(recipe: "Recipe", logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each position: as `common.losses.probe`."""
    return losses.probe(jnp, recipe, logits, labels)


def squared_error(recipe: "Recipe", logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each position: as `common.losses.squared_error`."""
    return losses.squared_error(jnp, recipe, logits, labels)


def sigmoid(recipe: "Recipe", logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of each position: as `common.losses.sigmoid`."""
    return losses.sigmoid(jnp, recipe, logits, labels)
