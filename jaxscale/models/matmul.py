"""Products of matrices whose gradients are written out: as JAX has them, XLA on CPU copies what it need not."""

import jax
import jax.numpy as jnp


def kept(x: jax.Array) -> jax.Array:
    """x, computed where it stands: XLA on CPU would fuse it into each reader anew, or fold a transpose into a product
    whose transposed form is several times slower. Elsewhere the compiler does better left alone."""
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def transposed(x: jax.Array) -> jax.Array:
    """(..., N, K) to (..., K, N), on a CPU in memory and not folded into the product that reads it; see `kept`."""
    return kept(jnp.swapaxes(x, -1, -2))


@jax.custom_vjp
def matmul(x_NxK: jax.Array, w_KxM: jax.Array) -> jax.Array:
    """x @ w. Its weight gradient is written x^T dy: JAX's own (dy^T x)^T costs XLA on CPU a transposing copy."""
    return x_NxK @ w_KxM


def matmul_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(dx (N, K), dw (K, M)) of dy (N, M) and the forward pass' (x, w)."""
    (x, w), dy = saved, kept(dy)
    return dy @ w.T, x.T @ dy


matmul.defvjp(lambda x, w: (x @ w, (x, w)), matmul_backward)


@jax.custom_vjp
def batched_matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b over leading axes. Its gradients transpose the smaller operands alone, never the scores of attention."""
    return a @ b


def batched_matmul_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(da (..., N, K), db (..., K, M)) of dy (..., N, M): db is a^T dy, or (dy^T a)^T where dy is no larger than a."""
    (a, b), dy = saved, kept(dy)
    db = transposed(a) @ dy if a.size < dy.size else transposed(kept(transposed(dy) @ a))
    return dy @ transposed(b), db


batched_matmul.defvjp(lambda a, b: (a @ b, (a, b)), batched_matmul_backward)


@jax.custom_vjp
def softmax_mix(scores: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(scores) @ v over leading axes, (..., N, D) of (..., N, M) and (..., M, D)."""
    return jax.nn.softmax(scores) @ v


def softmax_mix_forward(scores: jax.Array, v: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """(the mix, what its backward pass reads)."""
    shares = kept(jax.nn.softmax(scores))
    mixed = shares @ v
    return mixed, (shares, v, mixed)


def softmax_mix_backward(saved: tuple[jax.Array, jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(dscores (..., N, M), dv (..., M, D)). A softmax takes off the mean of what arrives by its shares, which is the
    product of what arrives at the mix with the mix: a sum over D in place of M (Dao et al. 2022, appendix B.2)."""
    (shares, v, mixed), dy = saved, kept(dy)
    mean = jnp.sum(dy * mixed, -1, keepdims=True)
    return shares * (dy @ transposed(v) - mean), transposed(kept(transposed(dy) @ shares))


softmax_mix.defvjp(softmax_mix_forward, softmax_mix_backward)
