"""Trains a recipe with Keras 3: a custom loop over `strategy.run`, one compiled step."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.data import Dataset, filled
from twinscale.common.families.adapters import has_products, is_adapter, tree_of
from twinscale.common.families.parameters import initial_values, is_trained
from twinscale.common.files.tensors import check_tensors
from twinscale.common.metrics import MEANS, total
from twinscale.common.metrics.rows import handed
from twinscale.common.objectives import judged
from twinscale.common.optimizers import described as optimizer_of
from twinscale.common.optimizers import in_both
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.tfscale import batch_loss, bits
from twinscale.tfscale.adapters import adapted
from twinscale.tfscale.devices_arrays import add_up, first, place, run
from twinscale.tfscale.models import build, canonical_variables
from twinscale.tfscale.optimizer import average, clip, make_optimizer, rates, reset, slots, still

if TYPE_CHECKING:
    from twinscale.common.training.room import Step, Tensors
    from twinscale.tfscale.devices import Devices


@dataclass(frozen=True)
class State:
    """All that a step reads and moves: Keras keeps it in variables, so a step returns the state it was given."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    averages: list

    @property
    def variables(self):
        """{canonical name: variable}."""
        return canonical_variables(self.model)

    @property
    def trained(self):
        return {name: v for name, v in self.variables.items() if is_trained(name)}

    @property
    def running(self):
        """The variables whose values `sum_gradients` carries from one micro-batch to the next."""
        return self.model.non_trainable_variables

    @property
    def step(self):
        return int(self.optimizer.iterations.numpy())


def new_state(recipe: Recipe, dataset: Dataset, devices: "Devices", dither: float = 0.0, old: "State | None" = None
              ) -> State:
    """The state before the first step: canonical first values in variables of the strategy.

    With `old`, a state of the same recipe, its variables are used again, so that steps compiled over them go on.
    """
    tree = tree_of(recipe, dataset.classes, dataset.example_shape)
    first = initial_values(tree, recipe.seed, master_dtype(recipe), dither)
    if old:
        reset(old.optimizer)
        for name, variable in old.variables.items():
            variable.assign(first[name])
        for name, variable in zip(old.trained, old.averages, strict=False):
            variable.assign(first[name])
        return old
    with devices.strategy.scope():
        model = build(recipe, dataset.classes, dataset.example_shape, keras, trained=True)
        variables = canonical_variables(model)
        for name, value in first.items():
            variables[name].assign(value)
        trained = {name: v for name, v in variables.items() if is_trained(name)}
        optimizer = make_optimizer(recipe, trained)
        averages = [tf.Variable(v, trainable=False) for v in trained.values()] if recipe.optimizer.ema else []
    return State(model, optimizer, averages)


def make_step(recipe: Recipe, state: State, devices: "Devices", gradients_of: Callable[..., Any] | None = None,
              move: Callable[..., Any] | None = None, stay: Callable[..., Any] | None = None) -> "Step":
    """The step: (state, number, batch, signals) to (state, metrics), of this host's rows of the batch. An update that
    is not finite changes nothing.

    `signals` are a few numbers of this host, always as many; the metric "signals", float32, is their sums over the
    hosts. Of a list of batches, those of the steps from `number` on, it takes all steps in one call, as
    `compiled_steps` has it; without XLA one after the other, as Grappler would round those in a loop otherwise.

    A stage of a compression gives functions of its own: `gradients_of` in place of `sum_gradients`, `move` of
    (gradients, running) in place of `update` and the running statistics, `stay` of (running) where nothing is to move.
    """
    compiled, most = compiled_step(recipe, state, devices, gradients_of, move, stay), recipe.devices.steps_per_call
    several = compiled_steps(devices, compiled)

    def laid(batch, signals):
        carried = np.zeros((len(batch["row"]), len(signals)), np.float32)
        carried[0] = signals
        return place(devices, batch | {"signals": carried})

    def step(state, number, batch, signals=(0, 0, 0)):
        first = tf.constant(number, tf.uint32)
        if isinstance(batch, Mapping):
            return state, compiled(first, laid(batch, signals))
        placed = [laid(each, signals) for each in batch]
        if not devices.compiles:
            told = [compiled(first + i, part) for i, part in enumerate(placed)]
            return state, tf.nest.map_structure(lambda *x: tf.stack(x), *told)
        with unrewritten(devices.jit_compile):
            return state, several((first, tf.constant(len(batch))), filled(placed, most))

    return step


def compiled_step(recipe, state, devices, gradients_of=None, move=None, stay=None):
    """What `make_step` compiles: of the step's number (uint32) and the placed batch, "signals" among it, to metrics; it
    moves the variables of the state."""

    def replica_gradients(number, batch):
        batch = dict(batch)
        signals = tf.reduce_sum(batch.pop("signals"), 0)
        gradients, running, sums = (gradients_of or sum_gradients)(recipe, state, number, batch)
        # Of one dtype, as hosts need what they add up at once.
        sums, gradients = add_up(sums | {"signals": tf.cast(signals, sums["weight"].dtype)}), add_up(gradients)
        gradients, norm = clip([g / tf.cast(sums["weight"], g.dtype) for g in gradients], recipe.optimizer.clip_norm)
        metrics = {name: sums[key] / sums["weight"] for name, key in MEANS.items() if key in sums}
        metrics |= {"gradient_norm": norm, "learning_rate": told_rate(recipe, state),
                   "signals": tf.cast(sums["signals"], tf.float32)}
        due = tf.equal(tf.cast(number, tf.int64), tf.cast(state.optimizer.iterations, tf.int64))
        return gradients, running, metrics, tf.math.is_finite(metrics["loss"]) & tf.math.is_finite(norm) & due

    def replica_move(gradients, running):
        update(recipe, state, gradients)
        assign(state.running, running)

    @tf.function(jit_compile=devices.jit_compile, autograph=False)
    def compiled(number, batch):
        gradients, running, metrics, due = run(devices, replica_gradients, number, batch)
        # Around the replicas: inside one, an optimizer that crosses them may stand under no condition.
        tf.cond(first(devices, due), lambda: run(devices, move or replica_move, gradients, running),
                lambda: run(devices, stay, running) if stay else None)
        return first(devices, metrics)

    return compiled


def compiled_steps(devices, compiled):
    """Several steps in one call of (the first's number, how many) and a list of placed batches: metrics with a first
    axis, a row a step and nothing behind the last. Each is `compiled` itself, the very program of a single step."""

    def stack(*batches):
        return {name: tf.stack([batch[name] for batch in batches]) for name in batches[0]}

    @tf.function(autograph=False)
    def several(numbers, batches):
        first_number, count = numbers
        stacked = run(devices, stack, *batches)
        told = compiled.get_concrete_function(first_number, batches[0]).structured_outputs

        def one(i, rows):
            batch = run(devices, lambda whole: {name: x[i] for name, x in whole.items()}, stacked)
            metrics = compiled(first_number + tf.cast(i, tf.uint32), batch)
            return i + 1, {name: row.write(i, metrics[name]) for name, row in rows.items()}

        rows = {name: tf.TensorArray(x.dtype, len(batches), element_shape=x.shape) for name, x in told.items()}
        _, rows = tf.while_loop(lambda i, _: i < count, one, (0, rows), parallel_iterations=1)
        return {name: row.stack() for name, row in rows.items()}

    return several


@contextmanager
def unrewritten(asked):
    """Where `asked`, keeps Grappler from functions that are called. XLA gets a step that is called alone as it was
    traced; one that is called by another function is rewritten first, and rounds otherwise in the last place."""
    key, before = "disable_meta_optimizer", tf.config.optimizer.get_experimental_options()
    if asked:
        tf.config.optimizer.set_experimental_options({key: True})
    try:
        yield
    finally:
        if asked:
            tf.config.optimizer.set_experimental_options({key: before.get(key, False)})


def told_rate(recipe, state):
    """The learning rate that a step tells: of a user's own optimizer, whose rate is inside of it, the recipe's 1."""
    theirs = optimizer_of(recipe.optimizer).theirs
    return rates(recipe)(state.optimizer.iterations) if theirs else state.optimizer.learning_rate


def assign(variables, values):
    """Puts values into variables."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def update(recipe, state, gradients):
    """Moves the weights, the optimizer's slots and the averages by one update of clipped gradients."""
    trained = list(state.trained.values())
    state.optimizer.apply(gradients, trained)
    if state.averages:
        average(state.averages, trained, recipe.optimizer.ema)


def sum_gradients(recipe, state, number, batch, objective=None):
    """Gradients of the summed loss over the micro-batches of one update, the running statistics after it, and the
    sums of its statistics. `objective` stands in place of `plain_objective`."""
    key = bits.step_key(recipe.seed, number)
    moving = still(recipe, state.trained)
    running = [tf.convert_to_tensor(v) for v in state.running]

    def one(running, part):
        with tf.GradientTape() as tape:
            total, running, sums = (objective or plain_objective)(recipe, state, running, part, key)
        found = {id(v): g for v, g in zip(moving, tape.gradient(total, moving), strict=True) if g is not None}
        # An embedding's sparse gradient may name a row twice, and the optimizer would take each alone: make it dense.
        return running, ([tf.convert_to_tensor(found[id(v)]) if id(v) in found else tf.zeros_like(v)
                          for v in state.trained.values()], sums)

    if recipe.train.accumulate == 1:
        running, (gradients, sums) = one(running, batch)
        return gradients, running, sums
    parts = {name: tf.reshape(x, (recipe.train.accumulate, -1, *x.shape[1:])) for name, x in batch.items()}
    part = lambda i: {name: tf.gather(x, i) for name, x in parts.items()}  # noqa: E731

    def add(i, running, totals):
        running, values = one(running, part(i))
        return i + 1, running, tf.nest.map_structure(tf.add, totals, values)

    moved = tf.constant(1), *one(running, part(0))
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:  # batch norm crosses replicas, which no loop may
        for _ in range(1, recipe.train.accumulate):
            moved = add(*moved)
    else:
        moved = tf.while_loop(lambda i, *_: i < recipe.train.accumulate, add, moved)
    _, running, (gradients, sums) = moved
    return gradients, running, sums


def plain_objective(recipe, state, running, batch, key):
    """The objective of one micro-batch, the running statistics after it, and the sums of its statistics."""
    model = state.model
    # Stateless, so that running statistics do not move before the loss is known to be finite.
    weights = computed(recipe, state, model.trainable_variables, key=key)
    logits, running = model.stateless_call(weights, running, batch_loss.model_inputs(recipe, batch, key), training=True)
    objective, sums = batch_loss.loss_sums(recipe, logits, batch)
    return objective, running, sums


def computed(recipe, state, values, averages=(), key=None):
    """What a model computes with, in the order of its trainable variables, of their `values`: those of kernels have
    their adapters' products in them, by the `averages`, in the order of all that is trained, where there are any; in
    training the step's `key` is given."""
    if not has_products(recipe):
        return values
    given = dict(zip((v.path for v in state.model.trainable_variables), values, strict=True))
    named = {v.path: name for name, v in state.trained.items() if not is_adapter(name)}
    beside = {name: v for name, v in state.trained.items() if is_adapter(name)}
    beside |= {name: x for name, x in zip(state.trained, averages, strict=False) if name in beside}
    made = adapted(recipe, {name: given[path] for path, name in named.items()} | beside, key)
    return [made[named[path]] for path in given]


def evaluated(state):
    """What an evaluation takes for the weights: their averages where there are any, in the order of the model's."""
    trained = [v.path for v in state.trained.values()]
    averages = dict(zip(trained, state.averages, strict=False))
    return [averages.get(v.path, v) for v in state.model.trainable_variables]


def make_evaluate(recipe: Recipe, state: State, devices: "Devices", compute_logits: Callable[..., Any] | None = None
                  ) -> "Callable[..., dict[str, float]]":
    """Evaluation: (state, batches, keep=None) to the summed statistics, with the averaged weights where there are any.
    Every host passes whole batches, and computes its rows of them. `keep` is given what is predicted, where a metric is
    of classes. `compute_logits` of the model's inputs may be given."""

    def averaged(inputs):
        model = state.model
        weights = computed(recipe, state, evaluated(state), state.averages)
        return model.stateless_call(weights, model.non_trainable_variables, inputs, training=False)[0]

    def replica_sums(batch):
        logits = (compute_logits or averaged)(batch_loss.model_inputs(recipe, batch, tf.zeros(2, tf.uint32)))
        weights = tf.cast(batch["weights"], logits.dtype)
        sums, rows = judged(keras.ops, recipe, logits, batch["labels"], weights)
        return add_up(sums), rows

    @tf.function(jit_compile=devices.jit_compile, autograph=False)
    def compiled(batch):
        return first(devices, run(devices, replica_sums, batch))

    def evaluate(state, batches, keep=None):
        own = ({name: x[devices.host::devices.hosts] for name, x in batch.items()} for batch in batches)
        return total(handed(compiled(place(devices, rows)), keep) for rows in own)

    return evaluate


def state_arrays(state):
    """{"weights/NAME" and each slot's "m/NAME", "v/NAME", "ema/NAME": variable where it lies}."""
    arrays = {f"weights/{name}": v for name, v in state.variables.items()}
    groups = slots(state.optimizer) | ({"ema": state.averages} if state.averages else {})
    for slot, variables in groups.items():
        arrays |= {f"{slot}/{name}": v for name, v in zip(state.trained, variables, strict=True)}
    return arrays | state.optimizer.rest


def state_tensors(state: State) -> "Tensors":
    """`state_arrays` as NumPy arrays."""
    return {name: v.numpy() for name, v in state_arrays(state).items()}


def with_tensors(recipe: Recipe, state: Any, devices: "Devices", tensors: "Tensors", step: int) -> State:
    """The state with the arrays of `tensors`, named as `state_tensors` has them, in place and `step` updates done.

    Raises BadInput, with nothing moved, where names or shapes are others.
    """
    arrays = state_arrays(state)
    if optimizer_of(recipe.optimizer).theirs:
        tensors, arrays = in_both(tensors, arrays)
    check_tensors(tensors, arrays)
    for name, variable in arrays.items():
        variable.assign(np.asarray(tensors[name], tf.as_dtype(variable.dtype).as_numpy_dtype))
    state.optimizer.iterations.assign(step)
    return state
