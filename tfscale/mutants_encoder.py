"""Errors of encoders; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import keras
from keras import ops

from twinscale.common.planted.planting import registry
from twinscale.tfscale.models import encoder
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
    with patch.object(LAYERS.MeanOver, "call", lambda self, x, kept: mean(self, x, ops.ones_like(kept))):
        yield


@change("padded", "embedding", "position", needs="encoder")
def positions_from_one() -> Iterator[None]:
    """Positions are counted from one more than the first, as in a port that takes RoBERTa's padding for BERT's."""
    call = LAYERS.Positions.call
    with patch.object(LAYERS.Positions, "call", lambda self, ids: call(self, ids) + 1):
        yield


@change("follows", "attention mask", "*.mask", needs="encoder")
def scores_of_zero() -> Iterator[None]:
    """Scores of padding are zero and not the lowest number: scores are multiplied by the mask."""
    with patch.object(LAYERS.PaddingMask, "call", lambda self, scores, kept: scores * ops.cast(
            kept, scores.dtype)[:, None, None, None]):
        yield


@change("follows", "activation", "pooler.activation", needs="encoder, a pooler")
def encoder_pools_without_tanh() -> Iterator[None]:
    """The pooler is a dense layer alone."""
    activation = encoder.activation
    with patch.object(encoder, "activation", lambda name: (lambda x: x) if name == "tanh" else activation(name)):
        yield


@change("follows", "linear", "pooler", needs="encoder, a pooler")
def last_token() -> Iterator[None]:
    """The pooler reads the last token of a row in place of the first."""
    with patch.object(LAYERS.First, "call", lambda self, x: x[:, -1]):
        yield


@change("hidden", "embedding or linear", "embedding", needs="encoder, a masked head", phase="backward")
def head_of_hidden_not_tied() -> Iterator[None]:
    """The head reads the embedding's table, but its gradient does not reach it."""
    call = LAYERS.TiedEmbedding.call

    def stopped(self, inputs, reverse=False):
        if not reverse:
            return call(self, inputs)
        table = ops.stop_gradient(ops.convert_to_tensor(self._embeddings))
        return ops.matmul(inputs, ops.transpose(ops.cast(table, inputs.dtype)))

    with patch.object(LAYERS.TiedEmbedding, "call", stopped):
        yield


@change("hidden", needs="encoder")
def shallow_padding() -> Iterator[None]:
    """Scores of padding are -1e35, and not the lowest number."""
    call = LAYERS.PaddingMask.call
    shallow = lambda self, scores, kept: ops.maximum(call(self, scores, kept), -1e35)  # noqa: E731
    with patch.object(LAYERS.PaddingMask, "call", shallow):
        yield
