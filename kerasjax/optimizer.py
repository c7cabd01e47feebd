"""A recipe's Keras optimizer as a function of arrays: what `tfscale.optimizer` makes, its variables without values.

State goes by slot and path, in a named tuple of the slots' fields: {path: array} each.
"""

from collections import namedtuple
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras

from twinscale.common.optimizers import described
from twinscale.common.optimizers.factors import moves_all_alike
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.jaxscale.models import canonical_variables
from twinscale.tfscale.optimizer import make_optimizer, slots
from twinscale.tfscale.program_dtypes import exact_promotion

if TYPE_CHECKING:
    from twinscale.jaxscale.train import State

Tensors = Mapping[str, jax.Array]
ELEMENTWISE = ("adamw", "sgd", "lion")  # a stack of tensors moves as each of them does
REST = "keras.rest"  # the group of what a user's own optimizer keeps besides slots


def begin(recipe: Recipe, weights: Tensors) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """(the state before the first update, ((slot, its field), ...)) of weights by path."""
    if described(recipe.optimizer).theirs:
        return begin_theirs(recipe, weights)
    held = described(recipe.optimizer).slots(recipe.optimizer)
    values = [{path: jnp.full(x.shape, slot.first, x.dtype) for path, x in weights.items()} for slot in held.values()]
    return fields_of(tuple(held))(*values), tuple((name, name) for name in held)


def begin_theirs(recipe: Recipe, weights: Tensors) -> tuple[Any, tuple[tuple[str, str], ...]]:
    """`begin` of an optimizer of the user's own, whose slots are what it has."""
    optimizer, variables = made(recipe, shapes_of(canonical_variables(weights)))
    first = dict(zip(map(id, optimizer.variables), optimizer.begun, strict=True))
    groups = {slot: {name: jnp.asarray(first[id(v)]) for name, v in zip(variables, kept, strict=True)}
              for slot, kept in slots(optimizer).items()}
    groups |= {REST: rest} if (rest := {name.partition("/")[2]: jnp.asarray(first[id(v)])
                                        for name, v in optimizer.rest.items()}) else {}
    names = tuple(groups)
    return fields_of(names)(*groups.values()), tuple(zip(names, fields_of(names)._fields, strict=True))


def move(recipe: Recipe, state: "State", gradients: Tensors) -> tuple[dict[str, jax.Array], Any]:
    """(weights by path, the optimizer's state) after one update by clipped gradients."""
    stacked = any(path.startswith("blocks.") for path in state.weights)
    if not stacked or recipe.optimizer.name in ELEMENTWISE and moves_all_alike(recipe):
        return moved(recipe, state, state.weights, gradients, state.optimizer)
    given, arriving, *kept = (canonical_variables(x) for x in (state.weights, gradients, *state.optimizer))
    weights, slots = moved(recipe, state, given, arriving, type(state.optimizer)(*kept))

    def together(tensors, like):
        return {path: jnp.stack([tensors[path.replace("blocks.", f"block_{i}.", 1)] for i in range(len(x))])
                if path.startswith("blocks.") else tensors[path] for path, x in like.items()}

    return together(weights, state.weights), type(slots)(*map(together, slots, state.optimizer))


def moved(recipe: Recipe, state: "State", weights: Tensors, gradients: Tensors, kept: Any
          ) -> tuple[dict[str, jax.Array], Any]:
    """`move`, of tensors whose paths the optimizer knows."""
    optimizer, variables = made(recipe, shapes_of(weights))
    groups = slots(optimizer)
    given = [(optimizer.iterations, state.step), *((variables[path], x) for path, x in weights.items())]
    for values, held in zip(kept, groups.values(), strict=False):  # what is no slot comes last
        given += [(v, values[path]) for path, v in zip(variables, held, strict=True)]
    rest = {name.partition("/")[2]: v for name, v in optimizer.rest.items()}
    given += [(v, kept[-1][name]) for name, v in rest.items()]
    with keras.StatelessScope(given) as scope, exact_promotion():
        optimizer.apply([gradients[path] for path in variables], list(variables.values()))
    found = [{path: scope.get_current_value(v) for path, v in zip(variables, held, strict=True)}
             for held in groups.values()]
    found += [{name: scope.get_current_value(v) for name, v in rest.items()}] if rest else []
    return {path: scope.get_current_value(v) for path, v in variables.items()}, type(kept)(*found)


@lru_cache(8)
def made(recipe: Recipe, shapes: tuple[tuple[str, tuple[int, ...]], ...]
         ) -> tuple[keras.optimizers.Optimizer, dict[str, keras.Variable]]:
    """(the optimizer, {path: variable}) of weights of some shapes. Ours have no values: a step gives them."""
    found = []

    def make():
        kind = str(master_dtype(recipe))
        variables = {path: variable(path, shape, kind) for path, shape in shapes}
        found.append((make_optimizer(recipe, variables), variables))

    if described(recipe.optimizer).theirs:
        with jax.ensure_compile_time_eval():
            make()
    else:
        jax.eval_shape(make)
    return found[0]


def variable(path: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
    """A weight of zeros by its path, in its layer, as a user's own optimizer may look for it. (By its name alone what
    Keras on TensorFlow keeps for another weight, in another order, would be taken for its own.)"""
    with keras.name_scope(path.rpartition(".")[0] or path):
        return keras.Variable("zeros", shape, dtype, name=path)


def shapes_of(tensors: Tensors) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """((path, shape), ...) of tensors, in one order: a user's own optimizer numbers what it keeps."""
    return tuple(sorted((path, tuple(x.shape)) for path, x in tensors.items()))


@cache
def fields_of(names: tuple[str, ...]) -> Any:
    """The named tuple of an optimizer's slots."""
    return namedtuple("Slots", [name.replace(".", "_") for name in names])  # noqa: PYI024  # its fields are data
