"""Keras' model, optimizer and loss as what `jaxscale.train` steps through."""

from typing import Any

from twinscale.jaxscale.framework import Framework
from twinscale.kerasjax import graph, optimizer
from twinscale.tfscale import batch_loss


class Keras:
    """See `jaxscale.framework.Framework`."""

    def build(self, recipe, classes, example_shape):
        return graph.build(recipe, classes, example_shape)

    def begin(self, recipe, weights):
        return optimizer.begin(recipe, weights)

    def move(self, recipe, state, gradients):
        return optimizer.move(recipe, state, gradients)

    def loss_sums(self, recipe, logits, batch):
        return batch_loss.loss_sums(recipe, logits, batch)


KERAS: Framework = Keras()
