"""Errors of residual networks and of vision transformers; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax.numpy as jnp
from flax import nnx

from twinscale.common.planted.planting import registry
from twinscale.jaxscale.models import resnet, vit
from twinscale.jaxscale.patches import changed_model

CHANGES, change = registry()


@change("residual", "norm", "*norm*", needs="resnet")
def swapped_momentum() -> Iterator[None]:
    """Running statistics keep 0.1 each step, where PyTorch's momentum of 0.1 keeps 0.9."""
    with changed_model(norm_momentum=0.1):
        yield


@change("residual", "convolution", "stem.conv", needs="resnet")
def padded_same() -> Iterator[None]:
    """Strided convolutions have more zeros behind than before, as padding "SAME" has them."""
    conv = resnet.conv

    def same(*of):
        module = conv(*of)
        module.padding = "SAME"
        return module

    with patch.object(resnet, "conv", same):
        yield


@change("residual", "max pooling", "stem.pool", needs="resnet, max pooling")
def pooled_same() -> Iterator[None]:
    """Max pooling has more around it behind than before, as padding "SAME" has it."""
    with patch.object(resnet, "max_pool", lambda x: nnx.max_pool(x, (3, 3), (2, 2), "SAME")):
        yield


@change("residual", "norm", "*norm*", needs="resnet")
def unbiased_variance() -> Iterator[None]:
    """Running variances are those of samples, divided by n - 1, as PyTorch keeps them."""
    call = nnx.BatchNorm.__call__

    def unbiased(self, x, use_running_average=None):
        kept = self.var[...] * self.momentum
        y = call(self, x, use_running_average=use_running_average)
        if not use_running_average:
            rows = x.size // x.shape[-1]
            self.var[...] = kept + (self.var[...] - kept) * rows / (rows - 1)
        return y

    with patch.object(nnx.BatchNorm, "__call__", unbiased):
        yield


@change("patches", "embedding", "position", needs="vit")
def token_without_position() -> Iterator[None]:
    """The class token has no position: the table is of patches alone."""
    call = nnx.Embed.__call__

    def bare(self, ids):
        x = call(self, ids)
        return x if ids.shape[1] == 1 else x.at[:, 0].set(0)

    with patch.object(nnx.Embed, "__call__", bare):
        yield


@change("patches", "norm", "*norm*", needs="vit")
def wide_epsilon() -> Iterator[None]:
    """Layer norms have Flax's default epsilon, 1e-6, in place of 1e-12."""
    with changed_model(norm_epsilon=1e-6):
        yield


@change("patches", "activation", "pooler.activation", needs="vit, a pooler")
def pooler_without_tanh() -> Iterator[None]:
    """The pooler is a dense layer alone."""
    activation = vit.activation
    with patch.object(vit, "activation", lambda name: (lambda x: x) if name == "tanh" else activation(name)):
        yield


@change("residual", needs="resnet")
def products_for_small_kernels() -> Iterator[None]:
    """A convolution of 1x1 is a matrix product."""
    conv = resnet.conv

    def product(of, *rest):
        module = conv(of, *rest)
        if of.size == 1:
            module.conv_general_dilated = lambda x, kernel, strides, *_, **options: jnp.einsum(
                "bhwi,io->bhwo", x[:, ::strides[0], ::strides[1]], kernel[0, 0])
        return module

    with patch.object(resnet, "conv", product):
        yield


@change("patches", needs="vit")
def patches_by_product() -> Iterator[None]:
    """Patches are cut out and multiplied by the kernel as a matrix."""
    def call(self, x):
        kernel, side = self.kernel[...].astype(x.dtype), self.kernel_size[0]
        rows, height, width, channels = x.shape
        parts = x.reshape(rows, height // side, side, width // side, side, channels).swapaxes(2, 3)
        return parts.reshape(*parts.shape[:3], -1) @ kernel.reshape(-1, kernel.shape[-1])

    with patch.object(nnx.Conv, "__call__", call):
        yield
