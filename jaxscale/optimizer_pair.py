"""An optax transform of the user's own in our trainer: what it computes is optax', what it keeps is found here."""

import itertools
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from twinscale.common.errors import BadInput, first_line
from twinscale.common.own import called

if TYPE_CHECKING:
    from twinscale.common.optimizers import PairOptions

WANTED = "an optax.GradientTransformation"
FIELDS = (("*", "*"),)  # in place of the fields of a state whose slots are not known before
KNOWN = {"mu": "m", "nu": "v"}  # fields that mean what Keras' Adam and its kin keep


def own(o: "PairOptions", decay: optax.GradientTransformation) -> tuple[optax.GradientTransformation, ...]:
    """The transform that the user's function returns, over tensors by path: its own functions, such as masks, see them
    as a nested dict, {"hidden": {"kernel": array}}. `decay` is ours, and not read.

    Raises BadInput where it is none, or draws random numbers.
    """
    made = called("optimizer", o, "jax", WANTED)
    if not isinstance(made, optax.GradientTransformation):
        raise BadInput(f"optimizer.jax: the function returns {type(made).__name__}: {WANTED} is wanted")

    def init(weights):
        with _blamed("weights"):
            state = made.init(_nested(weights))
        odd = next((where for where, x in jax.tree_util.tree_leaves_with_path(state) if _random(where, x)), None)
        if odd:
            raise BadInput(f"optimizer.jax: its state has {jax.tree_util.keystr(odd)}, which draws random numbers: "
                           "those are not shared with Keras; leave it out")
        jax.eval_shape(update, weights, state, weights)  # what breaks is said before anything is compiled
        return state

    def update(gradients, state, weights):
        with _blamed("gradients, its state and the weights"):
            updates, state = made.update(_nested(gradients), state, _nested(weights))
            return _flat(updates, weights), state

    return (optax.GradientTransformation(init, update),)


def with_own_slots(optimizer_state: optax.OptState, of: Callable[[str, str, Any], Any], count: Callable[[Any], Any]
                   ) -> optax.OptState:
    """A state with `of(slot, path, x)` in place of each array x, and `count(x)` of a number of updates: of what belongs
    to a weight the path is its own, of what does not it is the field's."""
    seen = set()

    def value(where, x):
        if _counts(where, x):
            return count(x)
        path, place = path_of(where), [_word(key) for key in where]
        above = place[:len(place) - len(_keys(where))]
        slot = KNOWN.get(above[-1] if above else "") if path else None
        if slot is None or (slot, path) in seen:
            slot = ".".join(["optax", *above]) if path else "optax.rest"
        seen.add((slot, path))
        return of(slot, path or ".".join(place) or "state", x)

    return jax.tree_util.tree_map_with_path(value, optimizer_state)


def path_of(where: tuple[Any, ...]) -> str:
    """The path of the tensor that an entry of a tree belongs to, by the keys of dicts that its key path ends in; "" of
    one that belongs to none."""
    return ".".join(_keys(where))


def _keys(where):
    keys = itertools.takewhile(lambda key: isinstance(key, jax.tree_util.DictKey), reversed(where))
    return [str(key.key) for key in keys][::-1]


@contextmanager
def _blamed(given):
    """While open, what breaks is the user's transform."""
    try:
        yield
    except Exception as error:
        raise BadInput(f"optimizer.jax: breaks when it is given {given}: {type(error).__name__}: "
                       f"{first_line(error, 300)}") from error


def _nested(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """{path: array} as nested dicts; as it is where one path begins with another."""
    if any(other.startswith(f"{path}.") for path in tensors for other in tensors):
        return dict(tensors)
    found: dict[str, Any] = {}
    for path, x in tensors.items():
        *above, leaf = path.split(".")
        inner = found
        for part in above:
            inner = inner.setdefault(part, {})
        inner[leaf] = x
    return found


def _flat(tree: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """`nested` undone, with the paths of `like` in their order."""
    found = {path_of(where): x for where, x in jax.tree_util.tree_leaves_with_path(tree)}
    return {path: found[path] for path in like}


def _counts(where: tuple[Any, ...], x: Any) -> bool:
    """Whether an entry of a state is a number of updates."""
    return bool(where) and _word(where[-1]) == "count" and jnp.issubdtype(x.dtype, jnp.integer) and not x.shape


def _random(where: tuple[Any, ...], x: Any) -> bool:
    """Whether an entry of a state is a key of random numbers."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key) or "rng_key" in map(_word, where)


def _word(key: Any) -> str:
    """A key of a key path as text."""
    return next((str(getattr(key, name)) for name in ("key", "idx", "name") if hasattr(key, name)), str(key))
