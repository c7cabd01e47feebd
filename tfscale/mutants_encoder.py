"""Errors of encoders; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
import tensorflow as tf

from twinscale.common.planted.planting import registry
from twinscale.tfscale.models.layers import layers

CHANGES, change = registry()
LAYERS = layers(keras)


@change("padded", "attention mask", "*.mask", needs="encoder")
def seen_padding() -> Iterator[None]:
    """Attention sees padding."""
    with patch.object(LAYERS.PaddingMask, "call", lambda self, scores, kept: scores):
        yield


@change("padded", "pooling", "pool", needs="encoder, pooled tokens")
def counted_padding() -> Iterator[None]:
    """The mean over tokens is one over padding too."""
    mean = LAYERS.MeanOver.call
    with patch.object(LAYERS.MeanOver, "call", lambda self, x, kept: mean(self, x, tf.ones_like(kept))):
        yield


@change("padded", "embedding", "position", needs="encoder")
def positions_from_one() -> Iterator[None]:
    """Positions are counted from one more than the first, as in a port that takes RoBERTa's padding for BERT's."""
    call = LAYERS.Positions.call
    with patch.object(LAYERS.Positions, "call", lambda self, ids: call(self, ids) + 1):
        yield
