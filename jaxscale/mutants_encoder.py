"""Errors of encoders; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax.numpy as jnp

from twinscale.common.planted.planting import registry
from twinscale.jaxscale.models import encoder

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
