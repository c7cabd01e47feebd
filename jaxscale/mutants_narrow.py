"""Errors that less than float64 alone shows: what is rounded that is not to be. See `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.planted.planting import registry
from twinscale.jaxscale import batch_loss, train
from twinscale.jaxscale.models import decoder, layers, mlp
from twinscale.jaxscale.patches import changed_adam, changed_sums, in_bfloat16

CHANGES, change = registry()


@change("narrow", "softmax", "*.shares", needs="bfloat16")
def narrow_softmax() -> Iterator[None]:
    """Softmax goes by scores in bfloat16."""
    softmax = jax.nn.softmax
    with patch.object(jax.nn, "softmax", lambda x: softmax(in_bfloat16(jnp.maximum(x, -1e38)))):
        yield


@change("narrow", "norm", "*norm*", needs="RMS norm, bfloat16")
def scale_after_cast() -> Iterator[None]:
    """RMS norm multiplies by its scale after the rounding to bfloat16."""
    def call(self, x):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        even = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + self.epsilon)
        return (in_bfloat16(even) * self.scale[...]).astype(x.dtype)

    with patch.object(nnx.RMSNorm, "__call__", call):
        yield


@change("narrow", "activation", "*.activation", needs="decoder, bfloat16")
def steep_activation() -> Iterator[None]:
    """The activation is a tenth too large, in bfloat16."""
    activation = decoder.activation

    def steep(name):
        function = activation(name)
        return lambda x: function(x) * (1.1 if x.dtype == jnp.bfloat16 else 1)

    with patch.object(decoder, "activation", steep):
        yield


@change("narrow", "norm", "*norm*", needs="RMS norm, bfloat16")
def narrow_statistics() -> Iterator[None]:
    """RMS norm divides by a root in bfloat16."""
    def call(self, x):
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        root = in_bfloat16(jnp.sqrt(jnp.mean(wide * wide, -1, keepdims=True) + self.epsilon))
        return (wide / root * self.scale[...]).astype(x.dtype)

    with patch.object(nnx.RMSNorm, "__call__", call):
        yield


@change("single", "linear", needs="mlp, float32")
def coarse_products() -> Iterator[None]:
    """Products read their inputs with bfloat16's digits, as a TPU does where nobody forbids it."""
    matmul = layers.matmul
    with patch.object(layers, "matmul", lambda x, w: matmul(in_bfloat16(x), w)):
        yield


@change("single", "activation", "*.activation", needs="mlp, GELU, float32")
def coarse_activation() -> Iterator[None]:
    """GELU multiplies by a probability in bfloat16."""
    gelu = lambda x: x * in_bfloat16(0.5 * (1 + jax.scipy.special.erf(x / jnp.sqrt(2).astype(x.dtype))))  # noqa: E731
    with patch.object(mlp, "activation", lambda name: gelu):
        yield


@change("single", "accumulation", needs="float32")
def coarse_sums() -> Iterator[None]:
    """Gradients are added up in bfloat16."""
    with changed_sums(in_bfloat16):
        yield


@change("half", "moment", needs="AdamW, less than float64")
def rounded_moments() -> Iterator[None]:
    """Adam's first moment is rounded to bfloat16."""
    with changed_adam(lambda state: state._replace(mu=jax.tree.map(in_bfloat16, state.mu))):
        yield


@change("single", "moment", needs="AdamW, less than float64")
def rounded_second_moments() -> Iterator[None]:
    """Adam's second moment is rounded to bfloat16."""
    with changed_adam(lambda state: state._replace(nu=jax.tree.map(in_bfloat16, state.nu))):
        yield


@change("half", "update", needs="less than float64")
def rounded_weights() -> Iterator[None]:
    """Weights are rounded to bfloat16 after every update, as without masters."""
    update = train.update

    def coarse(recipe, state, gradients):
        state = update(recipe, state, gradients)
        return state.replace(weights=jax.tree.map(in_bfloat16, state.weights))

    with patch.object(train, "update", coarse):
        yield


@change("half", "average", needs="less than float64")
def rounded_average() -> Iterator[None]:
    """The average of the weights is kept in bfloat16."""
    average = train.average
    with patch.object(train, "average", lambda *of: jax.tree.map(in_bfloat16, average(*of))):
        yield


@change("half", "loss", needs="less than float64")
def rounded_losses() -> Iterator[None]:
    """Each position's loss is rounded to bfloat16."""
    loss = batch_loss.negative_log_likelihood
    with patch.object(batch_loss, "negative_log_likelihood", lambda *of: in_bfloat16(loss(*of))):
        yield
