"""Weight clustering: each weight computes as the nearest centroid."""

from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp


def clustered(x: jax.Array, centroids: jax.Array) -> jax.Array:
    """x with each value replaced by the nearest of the centroids (clusters,), the first of equally near ones. The
    gradient goes to the centroids, each the sum over its values, and straight through to x."""
    nearest = jnp.argmin(jnp.abs(x[..., None] - centroids), -1)
    return centroids[nearest] + (x - jax.lax.stop_gradient(x))  # which adds zero


def with_zeros(before: Mapping[str, jax.Array], after: dict[str, jax.Array], running: Collection[str]
               ) -> dict[str, jax.Array]:
    """Weights `after` an update with the centroids that were zero `before` it at zero again, where zeros are kept."""
    kept = {name: jnp.where(before[name] == 0, 0, x) for name, x in after.items()
            if f"{name.removesuffix('_centroids')}_mask" in running and name.endswith("_centroids")}
    return after | kept
