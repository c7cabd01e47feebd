"""Keras' model, optimizer and loss as what `jaxscale.train` steps through."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from twinscale.common.objectives import OBJECTIVES, described
from twinscale.jaxscale.devices_compile import jit_once
from twinscale.jaxscale.framework import Framework, Held
from twinscale.jaxscale.program_dtypes import first_lower
from twinscale.kerasjax import graph, optimizer
from twinscale.tfscale import batch_loss, runtimes

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe
    from twinscale.jaxscale.train import State


class Keras:
    """The program of `tfscale`; see `jaxscale.framework.Framework`. (What is planted is planted in modules, so that
    each is asked when it is needed.)"""

    def build(self, recipe: "Recipe", classes: int, example_shape: Sequence[int]) -> tuple[Any, Mapping[str, Any]]:
        """`graph.build`."""
        return graph.build(recipe, classes, example_shape)

    def begin(self, recipe: "Recipe", weights: Mapping[str, jax.Array]) -> tuple[Any, Held]:
        """`optimizer.begin`."""
        return optimizer.begin(recipe, weights)

    def move(self, recipe: "Recipe", state: "State", gradients: Mapping[str, jax.Array]
             ) -> tuple[Mapping[str, jax.Array], Any]:
        """`optimizer.move`."""
        return optimizer.move(recipe, state, gradients)

    def loss_sums(self, recipe: "Recipe", logits: jax.Array, batch: Mapping[str, Any]
                  ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """`tfscale.batch_loss.loss_sums`."""
        with graph.exactly(described(recipe).theirs or recipe.objective.name not in OBJECTIVES.builtin):
            return batch_loss.loss_sums(recipe, logits, batch)


KERAS: Framework = Keras()
runtimes.give(vjp=jax.vjp, jit=jit_once, device=jax.default_backend,
              first_lower=lambda function, given, precision: first_lower(jax.jit(function).trace(*given), precision))
