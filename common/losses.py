"""Losses of outputs whose labels are no classes, or of which there are none, written over an array namespace
(numpy, jax.numpy, keras.ops): both rooms take the gradient of the same formulas, and evaluations add them up."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.metrics.classification import statistics
from twinscale.common.numbers import bits
from twinscale.common.own import called
from twinscale.common.registry import short
from twinscale.common.sources import MIXED

if TYPE_CHECKING:
    from twinscale.common.objectives import Objective

LARGEST_SIGN = 1.5  # of the probe


@lru_cache(4)
def signs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 of a row's shape, of both signs and from 0.5 to 1.5 in size, by the shared bits of the recipe's `seed`
    and of an element's position within the row alone. Their sums are not zero: those of +1 and -1 over a few may be."""
    drawn = bits.draw(bits.fold_in(bits.key(seed), bits.name_word("probe")), np.zeros(1, np.uint32),
                      int(np.prod(shape)))
    found = np.where(drawn & np.uint32(1), np.float32(1), np.float32(-1)) * (np.float32(0.5) + bits.uniform(drawn))
    return found.reshape(shape)


def probe(xp: Any, recipe: Any, logits: Any, labels: Any) -> Any:
    """Of each position, (B, ...) of outputs (B, ..., D): the sum of its outputs times `signs`. Labels are not read."""
    drawn = signs(recipe.seed, tuple(logits.shape[1:])).astype(_name_of(logits))
    return xp.sum(xp.multiply(logits, drawn), axis=-1)


def squared_error(xp: Any, recipe: Any, logits: Any, labels: Any) -> Any:
    """Of each position, (B, ...) of outputs (B, ..., D): the mean of its outputs' squared differences from labels."""
    return xp.mean(xp.square(xp.subtract(logits, targets(xp, logits, labels))), axis=-1)


def sigmoid(xp: Any, recipe: Any, logits: Any, labels: Any) -> Any:
    """Of each position, (B, ...) of outputs (B, ..., D): the mean over its outputs of binary cross-entropies in nats,
    of logits x and labels y from 0 to 1: max(x, 0) - x y + log(1 + exp(-|x|))."""
    kept = xp.subtract(xp.maximum(logits, xp.zeros_like(logits)), xp.multiply(logits, targets(xp, logits, labels)))
    return xp.mean(xp.add(kept, xp.log1p(xp.exp(xp.negative(xp.abs(logits))))), axis=-1)


def own(side: str, recipe: Any, logits: Any, labels: Any) -> Any:
    """Of each row or position, (B, ...) of outputs (B, ..., D): what the user's function of a side, "keras" or "jax",
    makes of (outputs, labels), in the outputs' dtype.

    Raises BadInput where it gives no loss of each row, or computes in another dtype whatever comes in.
    """
    found = called("objective", recipe.objective, side, "a loss of each row", logits, labels)
    where = f"objective.{side} = {short(getattr(recipe.objective, side))}"
    shape, rows = tuple(getattr(found, "shape", ())), tuple(logits.shape)
    if not shape or shape != rows[:len(shape)]:
        raise BadInput(f"{where}: gives {shape} of outputs {rows} and labels {tuple(labels.shape)}: a loss of each row "
                       f"({rows[0]},), or of each position, is wanted: leave out the mean, reduction=\"none\"")
    if _name_of(found) != _name_of(logits):
        raise BadInput(f"{where}: gives {_name_of(found)} of outputs {_name_of(logits)}: let it compute in what "
                       "comes in, for the rungs in float64; Keras' classes of losses cast, its functions do not")
    return found


def own_of(xp: Any, recipe: Any, logits: Any, labels: Any) -> Any:
    """`own` by the array namespace of a room."""
    side = "jax" if xp.__name__.startswith("jax") else "keras" if xp.__name__.startswith("keras") else ""
    if not side:
        raise BadInput(f"objective.name=pair: your own losses are of Keras and of JAX, not of {xp.__name__}")
    return own(side, recipe, logits, labels)


def targets(xp: Any, logits: Any, labels: Any) -> Any:
    """Labels as numbers of the outputs' shape and dtype: classes of several are 1 at their own output, 0 elsewhere.

    Raises BadInput where labels are of another shape.
    """
    nothing, shape, of_labels = xp.zeros_like(logits), tuple(logits.shape[1:]), tuple(labels.shape[1:])
    if "int" in _name_of(labels) and logits.shape[-1] > 1 and of_labels == shape[:-1]:
        chosen = xp.equal(xp.expand_dims(labels, -1), xp.arange(logits.shape[-1]))
        return xp.where(chosen, xp.ones_like(logits), nothing)
    if of_labels not in (shape, shape[:-1] if logits.shape[-1] == 1 else shape):
        raise BadInput(f"labels of {of_labels} a row do not fit outputs of {shape}: give a label for each output, or a "
                       "class for each position")
    return xp.add(nothing, xp.reshape(labels, (-1, *shape)))


def of_both(xp: Any, batch: Any, cast: Any, measure: Any) -> Any:
    """What `measure` makes of a batch's labels, (B, ...); of rows that are mixtures of two it is that of their own
    labels and of the other's, by their shares (Zhang et al. 2018). `cast`: of numbers to the outputs' dtype."""
    found, (labels, share) = measure(batch["labels"]), MIXED
    if labels not in batch:
        return found
    part = xp.reshape(cast(batch[share]), (-1, *[1] * (len(found.shape) - 1)))
    return part * found + (1 - part) * measure(batch[labels])


def by_weight(xp: Any, losses: Any, weights: Any) -> Any:
    """Losses of positions as there are weights: where a weight is of a whole row, the mean over its positions. Raises
    BadInput where a weight is of more than a position."""
    if tuple(losses.shape[1:len(weights.shape)]) != tuple(weights.shape[1:]):
        raise BadInput(f"labels or weights of {tuple(weights.shape[1:])} a row do not fit outputs with positions "
                       f"{tuple(losses.shape[1:])}: give a label for each position, or one for each row")
    further = tuple(range(len(weights.shape), len(losses.shape)))
    return xp.mean(losses, axis=further) if further else losses


def sums_of(objective: "Objective", xp: Any, recipe: Any, logits: Any, labels: Any, weights: Any) -> dict[str, Any]:
    """What an evaluation adds up: `common.metrics.statistics`, or of an objective whose labels are no classes its own
    loss and the weights: nothing is a hit there."""
    if not objective.judged:
        return statistics(xp, logits, labels, weights)
    losses = by_weight(xp, objective.judged(xp, recipe, logits, labels), weights)
    return {"loss": xp.sum(xp.multiply(weights, losses)), "weight": xp.sum(weights)}


def _name_of(x: Any) -> str:
    return str(getattr(x.dtype, "name", x.dtype))
