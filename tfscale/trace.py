"""What a comparison asks of this backend alone: tensors of one step, shared tensors, the optimizer under given
gradients."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.errors import BadInput
from twinscale.common.families.decoder import Decoder, pieces
from twinscale.common.families.places import places
from twinscale.common.files.tensors import named_arrays
from twinscale.common.numbers import bits as shared_bits
from twinscale.common.numbers.sketch import sketch
from twinscale.common.operations.in_place import is_taught
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.tfscale import batch_loss, bits, optimizer, train
from twinscale.tfscale.devices_arrays import add_up, first, place, rows_of, run
from twinscale.tfscale.models import build
from twinscale.tfscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.training.room import Batch, StepTaps, Tensors
    from twinscale.tfscale.devices import Devices


def make_step_tensors(recipe: Recipe, state: train.State, devices: "Devices"
                      ) -> "Callable[[train.State, int, Batch], Tensors]":
    """What one step computes before its update: (state, number, batch) to {"logits", "loss", "gradients/NAME": array}.

    NumPy arrays, in the order of computation. The gradients are of the mean loss, not clipped.
    """

    def replica_tensors(number, batch):
        key = bits.step_key(recipe.seed, number)
        model = state.model
        weights = train.computed(recipe, state, model.trainable_variables, key=key)
        logits, _ = model.stateless_call(weights, model.non_trainable_variables,
                                         batch_loss.model_inputs(recipe, batch, key), training=True)
        gradients, _, sums = train.sum_gradients(recipe, state, number, batch)
        return logits, add_up(sums), add_up(gradients)

    @tf.function(jit_compile=devices.jit_compile, autograph=False)
    def compiled(number, batch):
        return run(devices, replica_tensors, number, batch)

    def step_tensors(state, number, batch):
        logits, sums, gradients = compiled(tf.constant(number, tf.uint32), place(devices, batch))
        sums, gradients = first(devices, (sums, gradients))
        named = dict(zip(state.trained, gradients, strict=True))
        return {"logits": rows_of(devices, logits), "loss": (sums["loss"] / sums["weight"]).numpy(),
                **{f"gradients/{name}": (g / tf.cast(sums["weight"], g.dtype)).numpy() for name, g in named.items()}}

    return step_tensors


def make_step_taps(recipe: Recipe, dataset: "Dataset", state: train.State, devices: "Devices") -> "StepTaps":
    """One step place by place: (state, number, batch, teacher) to {"forward/PLACE", "backward/PLACE", "loss/SUM",
    "gradients/NAME", "running/NAME": NumPy array}, cotangents and gradients those of the summed loss.

    With a teacher, such a dict of another backend, every place goes on with the teacher's output and every operation
    goes back with the teacher's cotangent: then each tensor is what one operation made of the teacher's numbers. A
    place whose output has another shape than the teacher's goes on with its own. Micro-batches are taken as one batch.
    """
    known, trained = places(recipe.model), state.trained
    model = with_places(recipe, dataset, state.model)
    running = {name: v for name, v in state.variables.items() if name not in trained}

    def replica_taps(number, batch, teacher):
        outputs, zeros = {}, {}
        key = bits.step_key(recipe.seed, number)
        with tf.GradientTape() as tape:

            def hook(place, x):
                if place not in known:
                    return x
                if known[place].operation == "embedding":  # a table's reader casts: this is what it reads
                    x = tf.cast(x, recipe.train.precision)
                outputs[place], zeros[place] = x, tf.zeros_like(x)
                tape.watch(zeros[place])
                if not is_taught(teacher, place, x):
                    return x + zeros[place]
                taught = (tf.cast(teacher[f"{way}/{place}"], x.dtype) for way in ("forward", "backward"))
                return follow(x, zeros[place], *taught)

            made = train.computed(recipe, state, state.model.trainable_variables, key=key)
            kernels = [(v, x) for v, x in zip(model.trainable_variables, made, strict=True) if v is not x]
            with keras.StatelessScope(kernels) as scope, tapped(model, hook):
                logits = model(batch_loss.model_inputs(recipe, batch, key), training=True)
            total, sums = batch_loss.loss_sums(recipe, logits, batch)
        # Zeros by hand: for a Keras variable that nothing reads TensorFlow makes none, for its dtype is a text.
        gradients, cotangents = tape.gradient(total, (list(trained.values()), zeros))
        gradients = {name: tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
                     for (name, v), g in zip(trained.items(), gradients, strict=True)}
        cotangents = {name: tf.zeros_like(zeros[name]) if g is None else g for name, g in cotangents.items()}
        now = {name: scope.get_current_value(v) for name, v in running.items()}
        moved = {name: tf.convert_to_tensor(running[name] if x is None else x) for name, x in now.items()}
        return {"forward": outputs, "loss": sums, "backward": cotangents, "gradients": gradients, "running": moved}

    def compute(number, batch, teacher):
        return run(devices, replica_taps, number, batch, teacher)

    # In float64 it runs twice or so: where it is not under XLA op by op, which takes less than tracing it.
    by_ops = recipe.train.precision == "float64" and not devices.jit_compile
    compiled = compute if by_ops else tf.function(compute, jit_compile=devices.jit_compile, autograph=False)

    def step_taps(state, number, batch, teacher=None):
        if devices.replicas > 1:
            raise BadInput(f"devices.data={devices.replicas}: places are read on one device; set devices.data=1")
        return named_arrays(compiled(tf.constant(number, tf.uint32), place(devices, batch), teacher))

    return step_taps


def with_places(recipe: Recipe, dataset: "Dataset", model: keras.Model) -> keras.Model:
    """A trainer's model, or where its attention goes in pieces one that has every place whole, and the other's order of
    variables."""
    if not isinstance(recipe.model, Decoder) or len(pieces(dataset.example_shape[0])) == 1:
        return model
    return build(recipe, dataset.classes, dataset.example_shape, keras)


def make_sketch(recipe: Recipe, state: train.State, devices: "Devices") -> "Callable[[train.State], Tensors]":
    """What stands for a state where it is too large to copy: (state) to {"GROUP/NAME": NumPy array}, as
    `common.numbers.sketch.sketch` has it of each of `state_arrays`."""

    def replica_sketch():
        arrays = sorted(train.state_arrays(state).items())
        return tf.stack([sketch(keras.ops, tf.convert_to_tensor(v)) for _, v in arrays])

    @tf.function(jit_compile=devices.jit_compile, autograph=False)
    def compiled():
        return first(devices, run(devices, replica_sketch))

    names = sorted(train.state_arrays(state))

    def sketched(state):
        return dict(zip(names, compiled().numpy(), strict=True))

    return sketched


@tf.custom_gradient
def follow(x, zero, forward, backward):
    """`forward` in place of x, and going back `backward` for x and what arrives for `zero`."""
    return tf.identity(forward), lambda arriving: (backward, arriving, None, None)


def shared_tensors(recipe: Recipe) -> "Tensors":
    """{what: NumPy array} of what this backend draws and looks up by itself and must share bit for bit."""
    key = bits.fold_in(bits.step_key(recipe.seed, 1), shared_bits.name_word("contract"))
    drawn = bits.draw(key, tf.cast(tf.range(recipe.train.global_batch), tf.uint32), 1000)
    table = optimizer.rates(recipe)(tf.range(recipe.train.steps))
    return {"learning rates": table.numpy().astype(master_dtype(recipe)), "random bits": drawn.numpy()}


def clip_gradients(recipe: Recipe, gradients: "Tensors") -> "Tensors":
    """{canonical name: NumPy array} of float64 gradients as the trainer clips them."""
    clipped, _ = optimizer.clip([tf.constant(np.asarray(g, master_dtype(recipe))) for g in gradients.values()],
                                recipe.optimizer.clip_norm)
    return {name: g.numpy() for name, g in zip(gradients, clipped, strict=True)}


def apply_gradients(recipe: Recipe, state: train.State, devices: "Devices", updates: "Iterable[Tensors]"
                    ) -> Iterator[train.State]:
    """Iterator of the state after one update for each {canonical name: float64 NumPy array} of `updates`.

    Where XLA does not compile, one operation after another: tracing them would take longer than a few updates.
    """

    def replica(gradients):
        clipped, _ = optimizer.clip([gradients[name] for name in state.trained], recipe.optimizer.clip_norm)
        train.update(recipe, state, clipped)

    def move(gradients):
        run(devices, replica, gradients)

    compiled = tf.function(move, jit_compile=True, autograph=False) if devices.jit_compile else move
    for gradients in updates:
        compiled({name: tf.constant(np.asarray(g, master_dtype(recipe))) for name, g in gradients.items()})
        yield state
