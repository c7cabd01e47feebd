"""What Flax has no stock version of; none of it holds weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxscale import bits
from jaxscale.taps import tap


def kept(x):
    """x, computed where it stands: XLA on CPU would fuse it into each reader anew, or fold a transpose into a product
    whose transposed form is several times slower. Elsewhere the compiler does better left alone."""
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def transposed(x):
    return kept(jnp.swapaxes(x, -1, -2))


@jax.custom_vjp
def matmul(x_NxK, w_KxM):
    """x @ w. Its weight gradient is written x^T dy: JAX's own (dy^T x)^T costs XLA on CPU a transposing copy."""
    return x_NxK @ w_KxM


def matmul_backward(saved, dy):
    (x, w), dy = saved, kept(dy)
    return dy @ w.T, x.T @ dy


matmul.defvjp(lambda x, w: (x @ w, (x, w)), matmul_backward)


@jax.custom_vjp
def batched_matmul(a, b):
    """a @ b over leading axes. Its gradients transpose the smaller operands alone, never the scores of attention."""
    return a @ b


def batched_matmul_backward(saved, dy):
    (a, b), dy = saved, kept(dy)
    db = transposed(a) @ dy if a.size < dy.size else transposed(kept(transposed(dy) @ a))
    return dy @ transposed(b), db


batched_matmul.defvjp(lambda a, b: (a @ b, (a, b)), batched_matmul_backward)


def dot_general(x, w, dimension_numbers, **_):
    """`nnx.Linear`'s product over the last axis, as one flat matrix product: on CPU twice as fast as at rank 3."""
    return matmul(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])


class Linear(nnx.Linear):
    """`nnx.Linear` as one flat matrix product. The bias is added in float32 or wider and the sum rounded once: Flax
    would sum a bfloat16 bias' gradient over all rows in bfloat16."""

    def __init__(self, inputs, outputs, *, kinds, rngs, use_bias=True):
        def promote(values, dtype):
            x, kernel, bias = (None if v is None else v.astype(dtype) for v in values)
            return x, kernel, None if bias is None else bias.astype(jnp.promote_types(dtype, jnp.float32))

        super().__init__(inputs, outputs, use_bias=use_bias, **kinds, dot_general=dot_general, promote_dtype=promote,
                         rngs=rngs)

    def __call__(self, x):
        return super().__call__(x).astype(self.dtype)


def embedding(rows, width, kinds, rngs):
    """An `nnx.Embed` in the masters' dtype, so that the rows' gradients add up in it."""
    return nnx.Embed(rows, width, dtype=kinds["param_dtype"], param_dtype=kinds["param_dtype"], rngs=rngs)


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
    groups = heads // k.shape[2]
    q = q.reshape(batch, length, -1, groups, width).transpose(0, 2, 3, 1, 4).reshape(batch, -1, groups * length, width)
    k, v = kept(k.transpose(0, 2, 3, 1)), kept(v.transpose(0, 2, 1, 3))
    scores = batched_matmul(kept(q), k).reshape(batch, -1, groups, length, length)
    scores = tap("scores", scores.astype(jnp.promote_types(q.dtype, jnp.float32)) * width**-0.5)
    masked = tap("mask", jnp.where(causal_mask(length, segments), scores, jnp.finfo(scores.dtype).min))
    shares = tap("shares", jax.nn.softmax(masked))
    mixed = batched_matmul(shares.astype(v.dtype).reshape(batch, -1, groups * length, length), v)
    mixed = mixed.reshape(batch, -1, groups, length, width).transpose(0, 3, 1, 2, 4)
    return tap("mix", mixed.reshape(batch, length, heads * width))


def causal_mask(length, segments):
    """Whether a position sees another: bool, broadcasting to (B, K, G, T, T)."""
    mask = np.tril(np.ones((length, length), bool))[None, None, None]
    return mask if segments is None else mask & (segments[:, :, None] == segments[:, None, :])[:, None, None]


def dropout(x, batch, rate, place, training):
    """Dropout from the shared bits at a place, given as the word of its canonical name."""
    return bits.dropout(x, batch["key"], batch["row"], rate, place) if training and rate else x


def activation(name):
    """The function of a recipe's activation; bfloat16 is widened, and rounded once."""
    function = {"gelu": functools.partial(nnx.gelu, approximate=False), "relu": nnx.relu, "swiglu": nnx.silu,
                "gelu_tanh": functools.partial(nnx.gelu, approximate=True)}[name]
    return lambda x: function(x.astype(jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)
