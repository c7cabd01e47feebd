"""What Flax has no stock version of; none of it holds weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxscale import bits


@jax.custom_vjp
def matmul(x_NxK, w_KxM):
    """x @ w. Its weight gradient is written x^T dy: JAX's own (dy^T x)^T costs XLA on CPU a transposing copy."""
    return x_NxK @ w_KxM


def matmul_forward(x, w):
    return x @ w, (x, w)


def matmul_backward(saved, dy):
    x, w = saved
    return dy @ w.T, x.T @ dy


matmul.defvjp(matmul_forward, matmul_backward)


def dot_general(x, w, dimension_numbers, **_):
    """`nnx.Linear`'s product over the last axis, as one flat matrix product: on CPU twice as fast as at rank 3."""
    return matmul(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])


def attend(embedding, x_BxTxD):
    """Logits (B, T, V) of a head that shares an `nnx.Embed`'s table."""
    return dot_general(x_BxTxD, embedding.embedding[...].astype(x_BxTxD.dtype).T, None)


def rotary(x_BxTxHxD, positions_BxT, length, base):
    """Rotary positions (Su et al. 2021): halves of the head rotate against each other."""
    half = x_BxTxHxD.shape[-1] // 2
    angles = np.arange(length)[:, None] * base ** (-np.arange(half) / half)
    wide = jnp.promote_types(x_BxTxHxD.dtype, jnp.float32)
    cos, sin = (jnp.asarray(f(angles), wide)[positions_BxT][:, :, None] for f in (np.cos, np.sin))
    a, b = jnp.split(x_BxTxHxD.astype(wide), 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x_BxTxHxD.dtype)


def causal_attention(q, k, v, segments=None):
    """Scaled dot-product attention under a causal mask that documents do not cross (Vaswani et al. 2017).

    q (B, T, H, D) and k, v (B, T, K, D), where K divides H (grouped-query attention, Ainslie et al. 2023: query head h
    reads key head h // (H / K)); segments int (B, T) or None. Scores and softmax in float32 or wider.
    """
    batch, length, heads, width = q.shape
    grouped = q.reshape(batch, length, k.shape[2], heads // k.shape[2], width)
    scores = jnp.einsum("btkgd,bskd->bkgts", grouped, k)
    scores = scores.astype(jnp.promote_types(q.dtype, jnp.float32)) * width**-0.5
    mask = np.tril(np.ones((length, length), bool))[None, None, None]
    if segments is not None:
        mask = mask & (segments[:, :, None] == segments[:, None, :])[:, None, None]
    shares = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min))
    mixed = jnp.einsum("bkgts,bskd->btkgd", shares.astype(v.dtype), v)
    return mixed.reshape(batch, length, heads * width)


def dropout(x, batch, rate, place, training):
    """Dropout from the shared bits at a place, given as the word of its canonical name."""
    return bits.dropout(x, batch["key"], batch["row"], rate, place) if training and rate else x


def activation(name):
    """The function of a recipe's activation."""
    return {"gelu": functools.partial(nnx.gelu, approximate=False), "relu": nnx.relu, "swiglu": nnx.silu,
            "gelu_tanh": functools.partial(nnx.gelu, approximate=True)}[name]
