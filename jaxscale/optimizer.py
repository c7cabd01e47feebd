"""The optimizers of a recipe as optax transforms; the one semantics is written in `common/optimizers/`.

Own code stands only where optax's semantics cannot be set, and says why.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import is_decayed
from twinscale.common.optimizers import described
from twinscale.common.optimizers.factors import factors, freezes, moves_all_alike
from twinscale.common.recipe.schema import master_dtype
from twinscale.common.registry import resolved
from twinscale.common.schedules import learning_rates
from twinscale.jaxscale.optimizer_pair import FIELDS, with_own_slots

if TYPE_CHECKING:
    from twinscale.common.optimizers import OwnOptions
    from twinscale.common.recipe.schema import Recipe


def make_optimizer(recipe: "Recipe") -> optax.GradientTransformation:
    """An optax transform over {path: array}; the gradients it is given are already clipped."""
    o = recipe.optimizer
    decay = optax.add_decayed_weights(o.weight_decay, mask=lambda weights: {path: is_decayed(path) for path in weights})
    parts = resolved(described(o).jax)(o, decay)
    if described(o).theirs:
        return parts[0]
    last = () if moves_all_alike(recipe) else (by_factors(recipe),)
    return past_frozen(recipe, optax.chain(*parts, optax.scale_by_learning_rate(rates(recipe)), *last))


def adamw(o: "OwnOptions", decay: optax.GradientTransformation) -> tuple[optax.GradientTransformation, ...]:
    """Loshchilov & Hutter 2019, as `common/optimizers/adamw.py` writes it: transforms in the order of their use, where
    `decay` adds the decoupled decay and the rate comes last (`make_optimizer`)."""
    return optax.scale_by_adam(o.beta1, o.beta2, o.epsilon), decay


def sgd(o: "OwnOptions", decay: optax.GradientTransformation) -> tuple[optax.GradientTransformation, ...]:
    """As `common/optimizers/sgd.py` writes it; a momentum of 0, Nesterov's too, is none and has no slot."""
    return optax.trace(o.momentum, o.nesterov) if o.momentum else optax.identity(), decay


def lion(o: "OwnOptions", decay: optax.GradientTransformation) -> tuple[optax.GradientTransformation, ...]:
    """Chen et al. 2023, as `common/optimizers/lion.py` writes it."""
    return optax.scale_by_lion(o.beta1, o.beta2), decay


def lamb(o: "OwnOptions", decay: optax.GradientTransformation) -> tuple[optax.GradientTransformation, ...]:
    """You et al. 2020, algorithm 2, as `common/optimizers/lamb.py` writes it: the decay is within the trust ratio."""
    return *adamw(o, decay), trust_ratio()


def fields(recipe: "Recipe") -> tuple[tuple[str, str], ...]:
    """((slot, the field of the optax state that it is), ...) of a recipe's optimizer; `FIELDS` of a user's own."""
    if described(recipe.optimizer).theirs:
        return FIELDS
    return tuple((slot, where.optax) for slot, where in described(recipe.optimizer).slots(recipe.optimizer).items())


def check_slots(optimizer_state: optax.OptState, held: tuple[tuple[str, str], ...]) -> None:
    """Raises BadInput unless the slots that `held`, as `fields` has it, names, are all tensors by path in a state, and
    nothing else is in it but counts of updates."""
    def of(slot, path, x):
        found.add(slot)
        return x

    def count(x):
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise BadInput(f"optimizer.name: the optax state has a number ({x.dtype}) that is in no slot")
        return x

    found = set()
    if held == FIELDS:
        return
    with_slots(optimizer_state, held, of, count)
    if lacks := [field for slot, field in held if slot not in found]:
        raise BadInput(f"optimizer.name: the optax state has no {lacks[0]}, which the description has for a slot")


def with_slots(optimizer_state: optax.OptState, held: tuple[tuple[str, str], ...], of: Callable[[str, str, Any], Any],
               count: Callable[[Any], Any] = lambda x: x) -> optax.OptState:
    """An optax state with `of(slot, path, x)` in place of each tensor x by path, and `count(x)` of what is by none.
    Raises BadInput for one by path that is in no slot of `held`, as `fields` has it."""
    if held == FIELDS:
        return with_own_slots(optimizer_state, of, count)

    def value(where, x):
        path = where[-1].key if where and isinstance(where[-1], jax.tree_util.DictKey) else None
        names = [getattr(key, "name", None) for key in where]
        slot = next((slot for slot, field in held if field in names), None)
        if path is not None and slot is None:
            raise BadInput(f"optimizer.name: the optax state has {jax.tree_util.keystr(where)}, which is in no slot")
        return count(x) if path is None else of(slot, path, x)

    return jax.tree_util.tree_map_with_path(value, optimizer_state)


def rates(recipe: "Recipe") -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """The shared table of learning rates as a schedule: updates done (an integer) to the rate of the next."""
    table = learning_rates(recipe)
    return lambda count: jnp.asarray(table, master_dtype(recipe))[count]


def slots(optimizer_state: optax.OptState, held: tuple[tuple[str, str], ...]) -> dict[str, dict[str, Any]]:
    """{slot: {path: array}} of `held`, as `fields` has it; the names are those of the canonical semantics."""
    found: dict[str, dict[str, Any]] = {slot: {} for slot, _ in held if held != FIELDS}
    with_slots(optimizer_state, held, lambda slot, path, x: found.setdefault(slot, {}).setdefault(path, x))
    return found


def clip(gradients: Any, limit: float) -> tuple[Any, jax.Array]:
    """Gradients within a global norm of `limit` (0: unclipped), and the norm before. As the semantics has it: optax's
    own differs by the order of its rounding."""
    norm = optax.tree.norm(gradients)
    if limit:
        scale = jnp.minimum(jnp.ones_like(norm), limit / norm)
        gradients = jax.tree.map(lambda g: g * scale, gradients)
    return gradients, norm


def average(averages: Mapping[str, jax.Array], weights: Mapping[str, jax.Array], decay: float) -> dict[str, jax.Array]:
    """One step of the weights' moving average, from the first weights and without debiasing."""
    return optax.incremental_update(weights, averages, 1 - decay)


def by_factors(recipe: "Recipe") -> optax.GradientTransformation:
    """Each tensor's update times its factor; of blocks that are stacked each block's."""

    def moved(path, update):
        factor = jnp.asarray(factors(recipe, path), update.dtype)
        return update * factor.reshape(factor.shape + (1,) * (update.ndim - factor.ndim))

    return optax.stateless(lambda updates, _: {path: moved(path, update) for path, update in updates.items()})


def past_frozen(recipe: "Recipe", transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """A transform that leaves frozen tensors and their slots where they lie: their gradients are 0, so that nothing
    would come of reading and writing them but time."""

    def update(updates, state, weights):
        moved, after = transform.update(updates, state, weights)
        frozen = {path for path in updates if not np.any(factors(recipe, path))}
        old = slots(state, fields(recipe))
        after = with_slots(after, fields(recipe), lambda slot, path, x: old[slot][path] if path in frozen else x)
        return {path: jnp.zeros_like(x) if path in frozen else x for path, x in moved.items()}, after

    return optax.GradientTransformation(transform.init, update) if freezes(recipe) else transform


def still(recipe: "Recipe", weights: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Weights of which frozen ones get no gradient, nor anything that only these need."""

    def held(path, weight):
        moves = np.asarray(factors(recipe, path)) > 0
        if moves.ndim == 0:
            return weight if moves else jax.lax.stop_gradient(weight)
        if not moves.any():  # or its gradient would be computed, and then masked
            return jax.lax.stop_gradient(weight)
        return jnp.where(moves.reshape(-1, *(1,) * (weight.ndim - 1)), weight, jax.lax.stop_gradient(weight))

    return {path: held(path, w) for path, w in weights.items()} if freezes(recipe) else dict(weights)


def trust_ratio() -> optax.GradientTransformation:
    """LAMB's |w| / |u| for each canonical tensor: optax would take blocks stacked under a scan for one tensor."""

    def ratio(path, update, weight):
        axes = tuple(range(path.startswith("blocks."), update.ndim))
        w, u = (jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True)) for x in (weight, update))
        return update * jnp.where((w > 0) & (u > 0), w / jnp.where(u > 0, u, 1), 1)

    return optax.stateless(lambda updates, weights: {path: ratio(path, updates[path], weights[path])
                                                     for path in updates})
