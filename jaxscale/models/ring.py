"""Ring attention (Liu et al. 2023, "Ring Attention with Blockwise Transformers for Near-Infinite Context"), of one
device among those that share the positions of rows.

Each has a block of queries, keys and values. In as many turns as there are devices it attends with its queries to the
block that it has, and passes the block on to its neighbour: keys and values are nowhere whole, and scores are of one
block by one. The softmax over blocks keeps a maximum and a sum (Milakov and Gimelshein 2018; Rabe and Staats 2021).

Kept for the backward pass, besides the block that a device has had from the start: its output, and the logarithm of
each query's sum of exponentials. The shares are made again from these in a second round, in which the gradients of a
block's keys and values travel with it, in float32 or wider, and one turn further, home.

Blocks that are wholly in the future are computed too, and masked: the last device needs all of its turns, and the
others, which had less to do, would wait for it.

Shapes: B rows, T positions of a block, H heads of queries, K of keys, G = H / K, D their width.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name


class Ring(NamedTuple):
    """Devices along an axis of the mesh that share positions: the first has the first ones."""

    axis: str
    devices: int


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def attend_around(q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None", ring: Ring) -> jax.Array:
    """Causal attention, (B, T, H, D), of this device's q (B, T, H, D) to the k, v (B, T, K, D) of all devices of a
    ring. segments: int (B, T), documents that do not see each other, or None. Scores, their softmax and its sums are
    in float32 or wider, shares as wide as the values. Called under `jax.shard_map`."""
    return attend_forward(q, k, v, segments, ring)[0]


def attend_forward(q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None", ring: Ring
                   ) -> tuple[jax.Array, Any]:
    """(the output, what the backward pass reads); what is kept by the name of attention's place is kept with all that,
    so that no block goes around again."""
    queries, wide = grouped(q, k), widened(q)
    rows, _, heads, groups, width = queries.shape
    nothing = jnp.zeros((rows, heads, groups, q.shape[1]), wide)
    sums = nothing + jnp.finfo(wide).min, nothing, jnp.zeros((*nothing.shape, width), wide)

    def attend(block, sums, turn):
        (k, v, theirs), (highest, total, mixed) = block, sums
        scores = scored(queries, k, seen(segments, theirs, turn, ring, q.shape[1]))
        higher = jnp.maximum(highest, scores.max(-1))
        shares, before = jnp.exp(scores - higher[..., None]), jnp.exp(highest - higher)
        return (k, v, theirs), (higher, total * before + shares.sum(-1), mixed * before[..., None] + jnp.einsum(
            "bkgts,bskd->bkgtd", shares.astype(v.dtype), v, preferred_element_type=wide))

    _, (highest, total, mixed) = around(attend, (k, v, segments), sums, ring)
    mixed = jnp.moveaxis(mixed / total[..., None], 3, 1).reshape(q.shape).astype(q.dtype)
    mixed, logs = (checkpoint_name(x, "attention.mix") for x in (mixed, highest + jnp.log(total)))
    return mixed, (q, k, v, segments, mixed, logs)


def attend_backward(ring: Ring, saved: Any, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    """The gradients by q, k and v of that by the output, each rounded once."""
    q, k, v, segments, mixed, logs = saved
    queries, dmixed, wide, scale = grouped(q, k), grouped(dy, k), widened(q), q.shape[3]**-0.5
    inner = jnp.einsum("btkgd,btkgd->bkgt", dmixed.astype(wide), grouped(mixed, k).astype(wide))

    def attend(block, dq, turn):
        k, v, theirs, dk, dv = block
        shares = jnp.exp(scored(queries, k, seen(segments, theirs, turn, ring, q.shape[1])) - logs[..., None])
        dshares = jnp.einsum("btkgd,bskd->bkgts", dmixed, v, preferred_element_type=wide)
        dscores = (shares * (dshares - inner[..., None]) * scale).astype(q.dtype)
        dq = dq + jnp.einsum("bkgts,bskd->btkgd", dscores, k, preferred_element_type=wide)
        dk = dk + jnp.einsum("bkgts,btkgd->bskd", dscores, queries, preferred_element_type=wide)
        dv = dv + jnp.einsum("bkgts,btkgd->bskd", shares.astype(v.dtype), dmixed, preferred_element_type=wide)
        return (k, v, theirs, dk, dv), dq

    dk, dv = jnp.zeros(k.shape, wide), jnp.zeros(v.shape, wide)
    (_, _, _, dk, dv), dq = around(attend, (k, v, segments, dk, dv), jnp.zeros(queries.shape, wide), ring)
    dk, dv = passed_on((dk, dv), ring)
    return dq.reshape(q.shape).astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), None


attend_around.defvjp(attend_forward, attend_backward)


def around(attend: Callable[[Any, Any, Any], tuple[Any, Any]], block: Any, sums: Any, ring: Ring) -> tuple[Any, Any]:
    """(the last block, the sums) after a turn `attend(block, sums, turn)` at each block; after the last turn nothing is
    passed on."""
    def one(carried, turn):
        block, sums = attend(*carried, turn)
        return (passed_on(block, ring), sums), None

    (block, sums), _ = jax.lax.scan(one, (block, sums), jnp.arange(ring.devices - 1))
    return attend(block, sums, ring.devices - 1)


def passed_on(block: Any, ring: Ring) -> Any:
    """What the device before this one has, for the same of this one, which the next one gets."""
    pairs = [(i, (i + 1) % ring.devices) for i in range(ring.devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, ring.axis, pairs), block)


def seen(own: "jax.Array | None", theirs: "jax.Array | None", turn: Any, ring: Ring, length: int) -> jax.Array:
    """Whether a query of this device sees a key of the block that is here in a turn: bool, broadcasting to
    (B, K, G, T, T). own, theirs: documents (B, T) of queries and of keys, or None; length: T."""
    here = jax.lax.axis_index(ring.axis)
    source = (here - turn) % ring.devices  # whose block it is
    places = jnp.arange(length)
    mask = (here * length + places[:, None] >= source * length + places)[None, None, None]
    if own is None or theirs is None:
        return mask
    return mask & (own[:, :, None] == theirs[:, None, :])[:, None, None]


def scored(queries: jax.Array, k: jax.Array, mask: jax.Array) -> jax.Array:
    """Scores (B, K, G, T, T) of queries (B, T, K, G, D) and keys; least where a query does not see a key."""
    wide = widened(queries)
    scores = jnp.einsum("btkgd,bskd->bkgts", queries, k, preferred_element_type=wide) * queries.shape[4]**-0.5
    return jnp.where(mask, scores, jnp.finfo(wide).min)


def grouped(q: jax.Array, k: jax.Array) -> jax.Array:
    """(B, T, H, D) as (B, T, K, G, D): query head h reads key head h // G."""
    return q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[3])


def widened(x: jax.Array) -> Any:
    """The dtype of sums, float32 or wider."""
    return jnp.promote_types(x.dtype, jnp.float32)
