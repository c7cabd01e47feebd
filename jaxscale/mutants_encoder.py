"""Errors of encoders; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax
import jax.numpy as jnp

from twinscale.common.planted.planting import registry
from twinscale.common.planted.reach import everywhere
from twinscale.jaxscale import batch_loss
from twinscale.jaxscale.models import encoder, layers

CHANGES, change = registry()


@change("padded", "attention mask", "*.mask", needs="encoder")
def seen_padding() -> Iterator[None]:
    """Attention sees padding."""
    with patch.object(encoder, "padding_mask", lambda mask: jnp.ones((len(mask), 1, 1, 1, mask.shape[1]), bool)):
        yield


@change("padded", "pooling", "pool", needs="encoder, pooled tokens")
def counted_padding() -> Iterator[None]:
    """The mean over tokens is one over padding too."""
    mean = encoder.mean_over
    with patch.object(encoder, "mean_over", lambda x, mask: mean(x, jnp.ones_like(mask))):
        yield


@change("padded", "embedding", "position", needs="encoder")
def positions_from_one() -> Iterator[None]:
    """Positions are counted from one more than the first, as in a port that takes RoBERTa's padding for BERT's."""
    positions = encoder.positions
    with patch.object(encoder, "positions", lambda ids, first: positions(ids, first + 1)):
        yield


@change("hidden", "attention mask", "*.mask", needs="encoder")
def masked_after_softmax() -> Iterator[None]:
    """Padding is taken out of the shares of attention, and not out of the scores: shares add up to less than one."""
    attention, softmax = encoder.masked_attention, jax.nn.softmax

    def late(q, k, v, seen):
        places = patch.object(layers, "unread", lambda: False)  # what nothing reads has another softmax
        with places, patch.object(jax.nn, "softmax", lambda scores: softmax(scores) * seen):
            return attention(q, k, v, jnp.ones_like(seen))

    with patch.object(encoder, "masked_attention", late):
        yield


@change("follows", "embedding", "token_type", needs="encoder, types")
def types_ignored() -> Iterator[None]:
    """All tokens have type 0, as in a program that is not given their types."""
    model_inputs = batch_loss.model_inputs

    def alike(recipe, batch, key):
        found = model_inputs(recipe, batch, key)
        return {**found, "types": jnp.zeros_like(found["types"])}

    with everywhere("model_inputs", model_inputs, alike):
        yield


@change("follows", "activation", "pooler.activation", needs="encoder, a pooler")
def encoder_pools_without_tanh() -> Iterator[None]:
    """The pooler is a dense layer alone."""
    activation = encoder.activation
    with patch.object(encoder, "activation", lambda name: (lambda x: x) if name == "tanh" else activation(name)):
        yield


@change("hidden", "activation", "transform.activation", needs="encoder, a masked head, GELU")
def tanh_in_head() -> Iterator[None]:
    """The head of hidden tokens has GELU in its tanh form, Flax's default, and blocks the exact one."""
    headed = encoder.Encoder.headed

    def other(self, x, batch, training):
        own = self.m
        self.m = own.model_copy(update={"activation": "gelu_tanh"})
        try:
            return headed(self, x, batch, training)
        finally:
            self.m = own

    with patch.object(encoder.Encoder, "headed", other):
        yield


@change("hidden", "loss", needs="hidden pieces")
def mean_over_all() -> Iterator[None]:
    """The loss of what is hidden is divided by the number of all positions."""
    loss_sums = batch_loss.loss_sums

    def over_all(recipe, logits, batch):
        objective, sums = loss_sums(recipe, logits, batch)
        return objective, sums | {"weight": jnp.full_like(sums["weight"], batch["weights"].size)}

    with patch.object(batch_loss, "loss_sums", over_all):
        yield


@change("hidden", needs="encoder")
def fused_heads() -> Iterator[None]:
    """Queries, keys and values are one product, which is parted."""
    products = layers.products
    with patch.object(layers, "products", lambda of, x, fused: products(of, x, True)):
        yield
