"""What a comparison asks of this backend alone: tensors of one step, shared tensors, the optimizer under given
gradients."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.common.families.places import places
from twinscale.common.files.tensors import named_arrays
from twinscale.common.numbers import bits as shared_bits
from twinscale.common.numbers.sketch import sketch
from twinscale.common.operations.in_place import is_taught
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.jaxscale import batch_loss, bits, optimizer, train
from twinscale.jaxscale.adapters import adapted
from twinscale.jaxscale.devices_arrays import laid_out, place
from twinscale.jaxscale.devices_compile import jit_once
from twinscale.jaxscale.models import by_path, canonical_variables
from twinscale.jaxscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.training.room import Batch, StepTaps, Tensors
    from twinscale.jaxscale.devices import Devices


def make_step_tensors(recipe: Recipe, state: train.State, devices: "Devices", jit: Callable[..., Any] = jit_once
                      ) -> "Callable[[train.State, int, Batch], Tensors]":
    """What one step computes before its update: (state, number, batch) to {"logits", "loss", "gradients/NAME": array}.

    NumPy arrays, in the order of computation. The gradients are of the mean loss, not clipped. `jit` compiles it.
    """

    def compute(state, number, batch):
        key = bits.step_key(recipe.seed, number)
        inputs = batch_loss.model_inputs(recipe, batch, key)
        count = recipe.train.accumulate
        parts = {name: x.reshape(count, -1, *x.shape[1:]) for name, x in batch.items()} if count > 1 else batch
        with laid_out(devices):
            weights = adapted(recipe, state.weights, key)
            logits, _ = train.forward(recipe, state.graph, weights, state.running, inputs, training=True)
            gradients, _, sums = train.sum_gradients(recipe, state, number, parts)
        return logits, sums, canonical_variables(gradients)

    compiled = jit(compute, in_shardings=(train.state_shardings(state, devices), None, devices.rows),
                   out_shardings=devices.whole)

    def step_tensors(state, number, batch):
        return named_tensors(*compiled(state, jnp.int32(number), place(devices, batch)))

    return step_tensors


def named_tensors(logits, sums, gradients):
    """{"logits", "loss", "gradients/NAME": NumPy array} of logits, summed statistics, and gradients of the sum."""
    weight = np.asarray(sums["weight"])
    return {"logits": np.asarray(logits), "loss": np.asarray(sums["loss"] / sums["weight"]),
            **{f"gradients/{name}": np.asarray(g) / weight.astype(g.dtype) for name, g in gradients.items()}}


def make_step_taps(recipe: Recipe, dataset: "Dataset", state: train.State, devices: "Devices",
                   jit: Callable[..., Any] = jit_once) -> "StepTaps":
    """One step place by place: (state, number, batch, teacher) to {"forward/PLACE", "backward/PLACE", "loss/SUM",
    "gradients/NAME", "running/NAME": NumPy array}, cotangents and gradients those of the summed loss.

    With a teacher, such a dict of another backend, every place goes on with the teacher's output and every operation
    goes back with the teacher's cotangent: then each tensor is what one operation made of the teacher's numbers. A
    place whose output has another shape than the teacher's goes on with its own. Micro-batches are taken as one batch.
    `jit` compiles it.
    """
    # Places under a scan have no names of their own, and a fused kernel of attention has no places inside.
    plain = {"scan": False, "remat": "none", "attention": "einsum"}
    flat = recipe.model_copy(update={"jax": recipe.jax.model_copy(update=plain)})
    graph = functools.cache(lambda: state.framework.build(flat, dataset.classes, dataset.example_shape)[0])

    def objective(weights, running, number, batch, hook):
        key = bits.step_key(recipe.seed, number)
        model = train.module_of(graph(), adapted(recipe, weights, key), running)
        with tapped(model, hook):
            logits = model(batch_loss.model_inputs(recipe, batch, key), training=True)
        total, sums = state.framework.loss_sums(recipe, logits, batch)
        return total, (sums, train.running_of(model))

    taps = taps_of(objective, places(recipe.model))

    def compute(state, number, batch, teacher):
        return taps(canonical_variables(state.weights), canonical_variables(state.running), number, batch, teacher)

    compiled = jit(compute)

    def step_taps(state, number, batch, teacher=None):
        return named_arrays(compiled(state, jnp.int32(number), place(devices, batch), teacher))

    return step_taps


def taps_of(objective, known):
    """(weights, running, number, batch, teacher) to {group: {name: tensor}} of `make_step_taps`.

    Args:
      objective: (weights, running, number, batch, hook) to (the summed loss, (statistics, running statistics after)),
        the weights and the running statistics by canonical name.
      known: the names of the places to tap.
    """

    def forward(weights, zeros, running, number, batch, teacher):
        outputs = {}

        def hook(place, x):
            if place not in known:
                return x
            outputs[place] = x
            if zeros is None:
                return x
            if not is_taught(teacher, place, x):
                return x + zeros[place]
            taught = (teacher[f"{way}/{place}"].astype(x.dtype) for way in ("forward", "backward"))
            return follow(x, zeros[place], *taught)

        total, (sums, running) = objective(weights, running, number, batch, hook)
        return total, (outputs, sums, running)

    def compute(weights, running, number, batch, teacher):
        shapes = jax.eval_shape(forward, weights, None, running, number, batch, None)[1][0]
        zeros = {place: jnp.zeros(x.shape, x.dtype) for place, x in shapes.items()}
        (gradients, cotangents), (outputs, sums, running) = jax.grad(forward, (0, 1), has_aux=True)(
            weights, zeros, running, number, batch, teacher)
        return {"forward": outputs, "loss": sums, "backward": cotangents, "gradients": gradients, "running": running}

    return compute


def make_sketch(recipe: Recipe, state: train.State, devices: "Devices") -> "Callable[[train.State], Tensors]":
    """What stands for a state where it is too large to copy: (state) to {"GROUP/NAME": NumPy array}, as
    `common.numbers.sketch.sketch` has it of each of `state_arrays`."""

    def compute(state):
        with jax.default_matmul_precision("highest"):
            return jnp.stack([sketch(jnp, x) for _, x in sorted(train.state_arrays(state).items())])

    compiled = jax.jit(compute, in_shardings=(train.state_shardings(state, devices),), out_shardings=devices.whole)
    names = sorted(jax.eval_shape(train.state_arrays, state))

    def sketched(state):
        return dict(zip(names, np.asarray(compiled(state)), strict=True))

    return sketched


@jax.custom_vjp
def follow(x, zero, forward, backward):
    """`forward` in place of x, and going back `backward` for x and what arrives for `zero`."""
    return forward


follow.defvjp(lambda x, zero, forward, backward: (forward, backward),
              lambda backward, arriving: (backward, arriving, jnp.zeros_like(arriving), jnp.zeros_like(arriving)))


def shared_tensors(recipe: Recipe) -> "Tensors":
    """{what: NumPy array} of what this backend draws and looks up by itself and must share bit for bit."""
    @jit_once
    def compute():
        key = bits.fold_in(bits.step_key(recipe.seed, 1), shared_bits.name_word("contract"))
        drawn = bits.draw(key, jnp.arange(recipe.train.global_batch, dtype=jnp.uint32), 1000)
        return jax.vmap(optimizer.rates(recipe))(jnp.arange(recipe.train.steps)), drawn

    table, drawn = compute()
    return {"learning rates": np.asarray(table, master_dtype(recipe)), "random bits": np.asarray(drawn)}


def clip_gradients(recipe: Recipe, gradients: "Tensors", jit: Callable[..., Any] = jit_once) -> "Tensors":
    """{canonical name: NumPy array} of float64 gradients as the trainer clips them."""
    compiled = jit(lambda gradients: optimizer.clip(gradients, recipe.optimizer.clip_norm)[0])
    clipped = compiled({name: jnp.asarray(g, master_dtype(recipe)) for name, g in gradients.items()})
    return {name: np.asarray(g) for name, g in clipped.items()}


def apply_gradients(recipe: Recipe, state: train.State, devices: "Devices", updates: "Iterable[Tensors]",
                    jit: Callable[..., Any] = jit_once) -> Iterator[train.State]:
    """Iterator of the state after one update for each {canonical name: float64 NumPy array} of `updates`."""

    @jit
    def compiled(state, gradients):
        gradients = optimizer.clip(gradients, recipe.optimizer.clip_norm)[0]
        return train.update(recipe, train.at_hand(state), gradients)

    for gradients in updates:
        stacked = {path: by_path(path, gradients.__getitem__, recipe.model) for path in state.weights}
        state = compiled(state, {path: np.asarray(g, master_dtype(recipe)) for path, g in stacked.items()})
        yield state
