"""Whose model and optimizer a step of `train` is of: Flax' and optax' here, or those of another framework that
`jax.jit` traces. All else of a training (mesh, step, checkpoints, lowering) knows neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jax
import optax

from twinscale.jaxscale import batch_loss, models
from twinscale.jaxscale.optimizer import check_slots, fields, make_optimizer

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe
    from twinscale.jaxscale.train import State

Held = tuple[tuple[str, str], ...]  # an optimizer's slots, as `optimizer.fields` has them


class Framework(Protocol):
    """What a step asks of the framework whose program it trains. Static in a state: it is compared by what it is."""

    def build(self, recipe: "Recipe", classes: int, example_shape: Sequence[int]) -> tuple[Any, Mapping[str, Any]]:
        """(graph, {path: what has a shape}), as `models.build`; a graph that is not Flax' has a `module` of (weights,
        running) to a model, which has its `running` statistics after a call."""

    def begin(self, recipe: "Recipe", weights: Mapping[str, jax.Array]) -> tuple[Any, Held]:
        """(the optimizer's state before the first update, its slots): a tree whose tensors by path are in a field of
        the slot's."""

    def move(self, recipe: "Recipe", state: "State", gradients: Mapping[str, jax.Array]
             ) -> tuple[Mapping[str, jax.Array], Any]:
        """(weights by path, the optimizer's state) after one update by clipped gradients."""

    def loss_sums(self, recipe: "Recipe", logits: jax.Array, batch: Mapping[str, Any]
                  ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As `batch_loss.loss_sums`."""


@dataclass(frozen=True)
class Flax:
    """Flax' modules and optax' transforms, with `extra` tensors that a stage of a compression has besides."""

    extra: tuple[tuple[str, tuple[int, ...]], ...] = ()  # (canonical name, shape)

    def build(self, recipe: "Recipe", classes: int, example_shape: Sequence[int]) -> tuple[Any, Mapping[str, Any]]:
        """`models.build`, with what a stage has besides."""
        graph, variables = models.build(recipe, classes, example_shape)
        more = {name: jax.ShapeDtypeStruct(shape, float) for name, shape in self.extra}
        return graph, variables | more

    def begin(self, recipe: "Recipe", weights: Mapping[str, jax.Array]) -> tuple[optax.OptState, Held]:
        """optax' first state. Raises BadInput where it has what is in no slot."""
        begun = make_optimizer(recipe).init(weights)
        check_slots(begun, fields(recipe))
        return begun, fields(recipe)

    def move(self, recipe: "Recipe", state: "State", gradients: Mapping[str, jax.Array]
             ) -> tuple[Mapping[str, jax.Array], optax.OptState]:
        """An update of optax'."""
        updates, moments = make_optimizer(recipe).update(gradients, state.optimizer, state.weights)
        return optax.apply_updates(state.weights, updates), moments

    def loss_sums(self, recipe: "Recipe", logits: jax.Array, batch: Mapping[str, Any]
                  ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """As `batch_loss.loss_sums`."""
        return batch_loss.loss_sums(recipe, logits, batch)


FLAX = Flax()
