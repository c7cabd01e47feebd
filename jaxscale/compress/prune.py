"""Magnitude pruning; its masks are those of TF-MOT, bit for bit, on any mesh."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.common.compress.rules import BLOCK, chosen, is_due, kernels, sparsity_at
from twinscale.common.errors import one_of
from twinscale.jaxscale.compress.quantize import quotient

if TYPE_CHECKING:
    from twinscale.common.training.room import Tensors


def make_masks(stage: Any, update: int, tensors: "Tensors") -> "Tensors":
    """{name: mask}, NumPy arrays of 0 and 1, that a pruning stage makes at an update (from 1) of the kernels that it
    chooses of {canonical name: NumPy array}."""
    weights = {name: tensors[name] for name in chosen(stage.names, kernels(tensors))}
    masks = jax.jit(lambda sparsity, weights: masks_of(stage, sparsity, weights))(sparsity_at(stage, update), weights)
    return {name: np.asarray(masks[name]) for name in weights}


def masks_due(stage: Any, done: jax.Array, weights: Mapping[str, jax.Array], masks: Mapping[str, jax.Array]
              ) -> dict[str, jax.Array]:
    """{name: mask} that holds in the update after `done` ones (traced): new ones of `weights` where some are due."""
    updates = range(1, stage.steps + 1)
    due = np.array([is_due(stage, update) for update in updates])
    sparsity = np.array([sparsity_at(stage, update) for update in updates], np.float32)  # so that all round alike
    return jax.lax.cond(jnp.asarray(due)[done], lambda: masks_of(stage, jnp.asarray(sparsity)[done], weights),
                        lambda: masks)


def masks_of(stage: Any, sparsity: jax.typing.ArrayLike, weights: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """{name: mask} of {name: weights} at a sparsity (float32)."""
    return {name: mask_of(stage, sparsity, jnp.abs(x)).astype(x.dtype) for name, x in weights.items()}


def mask_of(stage: Any, sparsity: jax.typing.ArrayLike, sizes: jax.Array) -> jax.Array:
    """Whether each of some magnitudes is kept, bool."""
    patterns = {"2:4": lambda: largest_two(sizes), "unstructured": lambda: above_threshold(sparsity, sizes),
                "4x4": lambda: blocks_above(stage, sparsity, sizes)}
    return one_of(patterns, stage.pattern, "prune: pattern")()


def blocks_above(stage: Any, sparsity: jax.typing.ArrayLike, sizes: jax.Array) -> jax.Array:
    """As `above_threshold`, of whole blocks by what pooling makes of their magnitudes."""
    kept = above_threshold(sparsity, pooled(pooled(sizes, stage.pooling).T, stage.pooling).T)
    rows, columns = sizes.shape
    return jnp.repeat(jnp.repeat(kept, BLOCK, 0), BLOCK, 1)[:rows, :columns]


def above_threshold(sparsity: jax.typing.ArrayLike, sizes: jax.Array) -> jax.Array:
    """The largest share of 1 - sparsity, and all that equal the least of them."""
    count = jnp.maximum(jnp.round(jnp.float32(sizes.size) * (1 - sparsity)), 1).astype(jnp.int32)
    return sizes >= jnp.sort(sizes.reshape(-1))[sizes.size - count]


def largest_two(sizes: jax.Array) -> jax.Array:
    """The two largest of every four neighbours along the inputs, the first of equal ones."""
    fours = jnp.moveaxis(sizes, -2, -1)
    fours = fours.reshape(*fours.shape[:-1], -1, BLOCK)
    first, second = jnp.moveaxis(jax.lax.top_k(fours, 2)[1], -1, 0)[..., None]
    places = jnp.arange(BLOCK)
    kept = (places == first) | (places == second)
    return jnp.moveaxis(kept.reshape(*kept.shape[:-2], -1), -1, -2)


def pooled(sizes: jax.Array, pooling: str) -> jax.Array:
    """The average or maximum of every four rows (n, m): (ceil(n / 4), m). Where four do not divide n the padding stands
    half before and half after, as "SAME" has it; an average leaves it out."""
    rows = len(sizes)
    lacking = -rows % BLOCK
    pads = (lacking // 2, lacking - lacking // 2), (0, 0)
    fours = jnp.pad(sizes, pads).reshape(-1, BLOCK, sizes.shape[1])
    counts = np.pad(np.ones((rows, 1), np.float32), pads).reshape(-1, BLOCK, 1).sum(1)
    made = {"max": lambda: fours.max(1),
            "average": lambda: quotient(sum(fours[:, i] for i in range(BLOCK)), counts)}  # in TensorFlow's order
    return one_of(made, pooling, "prune: pooling")()
