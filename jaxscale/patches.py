"""What this backend's changes have in common: patch points with a function of what stands there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import optax

from twinscale.jaxscale import batch_loss, models, optimizer, train
from twinscale.jaxscale.models import decoder

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def in_bfloat16(x: jax.Array) -> jax.Array:
    """float32 in bfloat16's values: XLA takes a cast there and back for none. Others as they are."""
    return jax.lax.reduce_precision(x, 8, 7) if x.dtype == jnp.float32 else x


@contextmanager
def changed_model(**values: Any) -> Iterator[None]:
    """Builds every model from a section with some values changed."""
    with changed_builders(lambda recipe: recipe.model_copy(update={"model": recipe.model.model_copy(update=values)})):
        yield


@contextmanager
def changed_execution(**values: Any) -> Iterator[None]:
    """Builds every model that scans to run in another way; one whose places are read has its blocks in plain sight."""
    def changed(recipe):
        return recipe.model_copy(update={"jax": recipe.jax.model_copy(update=values)}) if recipe.jax.scan else recipe

    with changed_builders(changed):
        yield


@contextmanager
def changed_builders(function: "Callable[[Recipe], Recipe]") -> Iterator[None]:
    """Builds every model from a recipe as the function makes it."""
    builder = models.builder

    def changed(recipe):
        return lambda recipe, *rest: builder(recipe)(function(recipe), *rest)

    with patch.object(models, "builder", changed):
        yield


@contextmanager
def changed_attention(function: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]) -> Iterator[None]:
    """Attention of other queries, keys and values."""
    attention = decoder.causal_attention

    def changed(q, k, v, segments, **options):
        return attention(*function(q, k, v), segments, **options)

    with patch.object(decoder, "causal_attention", changed):
        yield


@contextmanager
def changed_train(**values: Any) -> Iterator[None]:
    """The loss of a recipe with some values of its train section changed."""
    loss_sums = batch_loss.loss_sums
    changed = lambda recipe, *rest: loss_sums(recipe.with_values(train=values), *rest)  # noqa: E731
    with patch.object(batch_loss, "loss_sums", changed):
        yield


@contextmanager
def changed_sums(function: Callable[[jax.Array], jax.Array]) -> Iterator[None]:
    """The gradients of an update as a function of each makes them."""
    sum_gradients = train.sum_gradients

    def changed(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        return jax.tree.map(function, gradients), running, sums

    with patch.object(train, "sum_gradients", changed):
        yield


@contextmanager
def changed_clip(function: Callable[[Any, float], Any]) -> Iterator[None]:
    """Gradients as a function of them and of the limit clips them; their norm stays as it is told."""
    clip = optimizer.clip

    def changed(gradients, limit):
        return function(gradients, limit), clip(gradients, 0.0)[1]

    with patch.object(optimizer, "clip", changed), patch.object(train, "clip", changed):
        yield


@contextmanager
def changed_adam(function: Callable[[optax.OptState], optax.OptState]) -> Iterator[None]:
    """Adam's state after every update as a function of it makes it."""
    adam = optax.scale_by_adam

    def changed(b1, b2, eps):
        inner = adam(b1, b2, eps)

        def update(gradients, state, weights=None):
            updates, state = inner.update(gradients, state, weights)
            return updates, function(state)

        return optax.GradientTransformation(inner.init, update)

    with patch.object(optax, "scale_by_adam", changed):
        yield
