"""Errors of adapters, of frozen tensors and of classes that weigh; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax
import jax.numpy as jnp

from twinscale.common.families.adapters import A, B
from twinscale.common.planted.planting import registry
from twinscale.jaxscale import batch_loss, trace, train

CHANGES, change = registry()


@change("adapted", "linear", needs="adapters", phase="backward")
def frozen_factor() -> Iterator[None]:
    """The first factor of an adapter stays at its random values."""
    adapted = train.adapted

    def held(recipe, values, *key):
        return adapted(recipe, {name: jax.lax.stop_gradient(x) if name.endswith(A) else x
                                for name, x in values.items()}, *key)

    with patch.object(train, "adapted", held), patch.object(trace, "adapted", held):
        yield


@change("patches", "convolution", "patch", needs="vit, frozen tensors", phase="backward")
def gradients_of_frozen() -> Iterator[None]:
    """Tensors that are frozen have gradients, which count where the norm is clipped."""
    with patch.object(train, "still", lambda recipe, weights: dict(weights)):
        yield


@change("adapted", "loss", needs="classes that weigh")
def mean_of_rows() -> Iterator[None]:
    """A loss that classes weigh is divided by the number of rows, as Keras has it, and not by what these weigh."""
    loss_sums = batch_loss.loss_sums

    def of_rows(recipe, logits, batch):
        objective, sums = loss_sums(recipe, logits, batch)
        return objective, sums | {"weight": jnp.full_like(sums["weight"], batch["weights"].size)}

    with patch.object(batch_loss, "loss_sums", of_rows):
        yield


@change("adapted", needs="adapters")
def scaled_factor() -> Iterator[None]:
    """The second factor of an adapter is scaled, and not the product of both."""
    adapted = train.adapted

    def scaled(recipe, values, *key):
        one = recipe.with_values(adapt={"alpha": float(recipe.adapt.rank)})
        return adapted(one, {name: recipe.adapt.scale * x if name.endswith(B) else x
                             for name, x in values.items()}, *key)

    with patch.object(train, "adapted", scaled), patch.object(trace, "adapted", scaled):
        yield
