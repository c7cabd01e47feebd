"""Fake quantisation in 8 bits by the formula of TensorFlow's kernels, bit for bit, and where it stands in a model."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.common.compress.rules import per_channel, quantised_places
from twinscale.common.families.parameters import is_trained
from twinscale.jaxscale import batch_loss, train
from twinscale.jaxscale.devices_arrays import born, laid_out, place
from twinscale.jaxscale.models import build
from twinscale.jaxscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Batch, Tensors
    from twinscale.jaxscale.devices import Devices

LAST = 255.0  # the largest of 8 bits
MOVED = 1 - 0.999  # how far a moving average goes to what is new


def fake_quantise(x: Any, low: Any, high: Any, narrow: bool) -> np.ndarray:
    """The NumPy array x rounded to the grid of 8 bits from `low` to `high`, float32; each is () or, of channels along
    x's last axis, (channels,). `narrow` leaves the grid's first point out."""
    x, low, high = (jnp.asarray(value, jnp.float32) for value in (x, low, high))
    return np.asarray(jax.jit(on_grid, static_argnums=3)(x, low, high, narrow))


def extremes(recipe: "Recipe", dataset: "Dataset", devices: "Devices", tensors: "Tensors", batches: "Iterable[Batch]"
             ) -> dict[str, tuple[float, float]]:
    """{place: (min, max)}, zero included, of what each of the quantised places of a stage's recipe computes over the
    batches, by a model that is not quantised yet, in evaluation.

    Args:
      tensors: {canonical name: NumPy array} of the model.
      batches: whole ones, as `common.data.training_batches` gives them.
    """
    graph, variables = build(recipe, dataset.classes, dataset.example_shape)
    lying = {name: born(name, v.shape, v.dtype, devices.weights(name, v.shape), tensors.__getitem__, 0)
             for name, v in variables.items()}
    known = quantised_places(recipe.model)

    @functools.partial(jax.jit, out_shardings=devices.whole)
    def compute(weights, running, batch):
        seen = {}

        def see(name, x):
            if name in known:
                seen[name] = range_of(x)
            return x

        inputs = batch_loss.model_inputs(recipe, batch, jnp.zeros(2, jnp.uint32))
        see("inputs", inputs["inputs"])
        with laid_out(devices), tapped(None, see):
            train.forward(recipe, graph, weights, running, inputs)
        return seen

    weights = {name: x for name, x in lying.items() if is_trained(name)}
    running = {name: x for name, x in lying.items() if not is_trained(name)}
    rows = [compute(weights, running, place(devices, {
        name: x[devices.reader::devices.readers] for name, x in batch.items()})) for batch in batches]
    return {name: (min(float(row[name][0]) for row in rows), max(float(row[name][1]) for row in rows))
            for name in known}


def quantising(recipe: "Recipe", running: Mapping[str, jax.Array], training: bool, moved: dict[str, jax.Array]
               ) -> Callable[[str, jax.Array], jax.Array]:
    """A hook for `tapped` that quantises what the places compute, under the ranges in `running`; in training they move
    first, and are put into `moved`."""
    known = quantised_places(recipe.model)

    def hook(name, x):
        if name not in known:
            return x
        found = running[f"{name}.range"]
        if training:
            seen = range_of(x)
            both = jnp.stack([jnp.minimum(found[0], seen[0]), jnp.maximum(found[1], seen[1])])
            found = both if known[name] == "all" else found - rounded((found - seen) * MOVED)
            moved[f"{name}.range"] = found
        return on_grid(x, *found, False)

    return hook


def range_of(x: jax.Array) -> jax.Array:
    """[min, max] of a tensor, zero included."""
    x = jax.lax.stop_gradient(x)
    return jnp.stack([jnp.minimum(x.min(), 0), jnp.maximum(x.max(), 0)])


def symmetric_range(kernel: jax.Array) -> jax.Array:
    """[min, max] of a kernel, (2,) or of a convolution (2, channels), as far below zero as above."""
    kernel = jax.lax.stop_gradient(kernel)
    axes = tuple(range(kernel.ndim - 1)) if per_channel(kernel.shape) else None
    low, high = kernel.min(axes), kernel.max(axes)
    return jnp.stack([jnp.minimum(low, -high), jnp.maximum(high, -low)])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def on_grid(x: jax.Array, low: jax.Array, high: jax.Array, narrow: bool) -> jax.Array:
    """`fake_quantise`, traced. Its gradient goes straight through to x where x is within the grid."""
    scale, inverse, first, last = grid(low, high, narrow)
    zero = jnp.floor(-first * inverse + 0.5)
    shifted = jnp.clip(x, first, last) - first
    # TensorFlow's kernel divides by one scale, and multiplies by the inverses of channels'.
    steps = rounded(shifted * inverse) if low.ndim else quotient(shifted, scale)
    return jnp.where((low == 0) & (high == 0), 0, rounded(jnp.floor(steps - zero + 0.5) * scale))


def on_grid_forward(x: jax.Array, low: jax.Array, high: jax.Array, narrow: bool
                    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """`on_grid`, and what its gradient needs: where x is within the grid, which all of it is while the range is empty
    (0 to 0)."""
    _, _, first, last = grid(low, high, narrow)
    within = (first <= x) & (x <= last) | (low == 0) & (high == 0)
    return on_grid(x, low, high, narrow), (within, low, high)


def on_grid_backward(narrow: bool, saved: tuple[jax.Array, ...], dy: jax.Array
                     ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """To (x, low, high), x straight through (Bengio et al. 2013): a range moves by what is seen, never by a gradient.
    `narrow` comes first, as `custom_vjp` hands over what is not differentiated."""
    within, low, high = saved
    return jnp.where(within, dy, 0), jnp.zeros_like(low), jnp.zeros_like(high)


on_grid.defvjp(on_grid_forward, on_grid_backward)


def grid(low: jax.Array, high: jax.Array, narrow: bool) -> tuple[jax.Array, ...]:
    """(distance of two points, its inverse, the first point, the last) of the grid that has a point at zero."""
    first, width = float(narrow), high - low
    scale, inverse = quotient(width, LAST - first), (LAST - first) / width
    zero = jnp.clip(jax.lax.round(first - quotient(low, scale)), first, LAST)  # halves away from zero
    return scale, inverse, rounded((first - zero) * scale), rounded((LAST - zero) * scale)


def quotient(a: "jax.Array | int", b: jax.typing.ArrayLike) -> jax.Array:
    """a / b, rounded once. By what is the same everywhere, or itself a quotient, XLA would multiply."""
    return a / jnp.where(jnp.isnan(a), a, b)


def rounded(x: jax.Array) -> jax.Array:
    """x, where it is finite, rounded before what follows: compilers contract a product and a sum into one operation
    that rounds once, but not across a choice. Two values of a grid that cancel would then leave a remainder."""
    return jnp.where(jnp.isfinite(x), x, jnp.nan)
