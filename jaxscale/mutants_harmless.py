"""Other ways to compute the same, which no comparison is to flag. See `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from twinscale.common.planted.planting import registry
from twinscale.jaxscale import batch_loss, train
from twinscale.jaxscale.models import layers, mlp
from twinscale.jaxscale.patches import changed_execution

CHANGES, change = registry()


@change("layer", needs="decoder")
def attention_by_einsum() -> Iterator[None]:
    """Attention as two einsums, differentiated by JAX."""
    with patch.object(layers, "batched_matmul", lambda a, b: jnp.einsum("...ij,...jk->...ik", a, b)):
        yield


@change("layer")
def products_transposed() -> Iterator[None]:
    """A linear layer's product is that of the transposes, transposed."""
    with patch.object(layers, "matmul", lambda x, w: (w.T @ x.T).T):
        yield


@change("rotary", needs="RMS norm")
def unfused_norm() -> Iterator[None]:
    """RMS norm written out."""

    class Norm(nnx.RMSNorm):
        def __call__(self, x):
            return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True) / x.shape[-1] + self.epsilon) * self.scale[...]

    with patch.object(nnx, "RMSNorm", Norm):
        yield


@change("dense", needs="clipping")
def norm_of_one_vector() -> Iterator[None]:
    """The gradient's global norm is taken of one long vector."""
    flat = lambda tree: jnp.sqrt(jnp.sum(jnp.square(jnp.concatenate([x.ravel() for x in jax.tree.leaves(tree)]))))  # noqa: E731
    with patch.object(optax.tree, "norm", flat):
        yield


@change("layer", needs="decoder")
def recomputed_blocks() -> Iterator[None]:
    """The backward pass recomputes every block."""
    with changed_execution(remat="full"):
        yield


@change("layer", needs="a scan, decoder")
def unrolled_blocks() -> Iterator[None]:
    """Blocks run one after another in place of under a scan."""
    with changed_execution(scan=False):
        yield


@change("layer", needs="decoder")
def softmax_by_log() -> Iterator[None]:
    """Softmax as the power of a log-softmax."""
    with patch.object(jax.nn, "softmax", lambda x: jnp.exp(jax.nn.log_softmax(x))):
        yield


@change("half", needs="mlp, GELU")
def gelu_by_complement() -> Iterator[None]:
    """GELU by the complementary error function."""
    def gelu(x):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return (0.5 * wide * jax.scipy.special.erfc(-wide / jnp.sqrt(2).astype(wide.dtype))).astype(x.dtype)

    with patch.object(mlp, "activation", lambda name: gelu):
        yield


@change("dense")
def loss_by_one_hot() -> Iterator[None]:
    """Cross-entropy as a product with one-hot labels."""
    def loss(logits, labels):
        return -jnp.sum(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype) * jax.nn.log_softmax(logits), -1)

    with patch.object(batch_loss, "negative_log_likelihood", loss):
        yield


@change("dense", needs="an average")
def average_by_difference() -> Iterator[None]:
    """The average moves by a share of its distance to the weights."""
    with patch.object(train, "average", lambda averages, weights, decay: jax.tree.map(
            lambda a, w: a + (1 - decay) * (w - a), averages, weights)):
        yield


@change("dense", needs="clipping")
def norm_of_norms() -> Iterator[None]:
    """The gradient's global norm is that of its tensors' norms."""
    of_norms = lambda tree: jnp.linalg.norm(jnp.stack([jnp.linalg.norm(x.ravel()) for x in jax.tree.leaves(tree)]))  # noqa: E731
    with patch.object(optax.tree, "norm", of_norms):
        yield


@change("spread", needs="several devices", phase="")
def rows_summed_apart() -> Iterator[None]:
    """The gradient of each half of a batch by itself, and their sum."""
    sum_gradients = train.sum_gradients

    def apart(recipe, state, number, batch):
        gradients, running, sums = sum_gradients(recipe, state, number, batch)
        rows = batch["row"].shape[0] // 2
        halves = [sum_gradients(recipe, state, number, {name: x[half] for name, x in batch.items()})[0]
                  for half in (slice(rows), slice(rows, None))]
        return jax.tree.map(jnp.add, *halves), running, sums

    with patch.object(train, "sum_gradients", apart):
        yield
