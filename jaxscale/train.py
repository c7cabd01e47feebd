"""Trains a recipe with Flax NNX: one jitted, donated step with explicit shardings over a mesh."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jax.experimental import multihost_utils

from twinscale.common.data import Dataset, filled
from twinscale.common.families import traits_of
from twinscale.common.families.adapters import tree_of
from twinscale.common.families.parameters import Parameter, initial_value, is_trained
from twinscale.common.files.tensors import check_tensors
from twinscale.common.metrics import MEANS, judge_apart, total
from twinscale.common.metrics.rows import handed
from twinscale.common.objectives import judged
from twinscale.common.optimizers import described as optimizer_of
from twinscale.common.optimizers import in_both
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.jaxscale import batch_loss, bits
from twinscale.jaxscale.adapters import adapted
from twinscale.jaxscale.devices_arrays import born, laid_out, lay_weights, place, place_signals, shares_apart
from twinscale.jaxscale.devices_compile import chunks_of, compiler_options, jit
from twinscale.jaxscale.framework import FLAX, Framework
from twinscale.jaxscale.models import canonical_variables, merge
from twinscale.jaxscale.models.layers import in_chunks
from twinscale.jaxscale.optimizer import average, clip, rates, slots, still, with_slots
from twinscale.jaxscale.optimizer_pair import path_of

if TYPE_CHECKING:
    from twinscale.common.training.room import Step, Tensors
    from twinscale.jaxscale.devices import Devices


@struct.dataclass
class State:
    """All that a step reads and moves, by dotted path: a step takes one and returns the next."""

    step: jax.Array  # int32: updates done
    weights: dict
    running: dict  # running statistics, moved by the forward pass
    optimizer: Any  # of the framework's optimizer: what optax calls its state
    averages: dict
    graph: Any = struct.field(pytree_node=False)
    held: tuple = struct.field(pytree_node=False)  # the optimizer's slots, as `optimizer.fields` has them
    teacher: nnx.GraphDef = struct.field(pytree_node=False, default=None)  # of a stage that distils
    begin: Callable = struct.field(pytree_node=False, default=None)  # weights to the rest of a first state
    framework: Framework = struct.field(pytree_node=False, default=FLAX)


def new_state(recipe: Recipe, dataset: Dataset, devices: "Devices", dither: float = 0.0, old: "State | None" = None,
              framework: Framework = FLAX) -> State:
    """The state before the first step: canonical first values, born where they lie on the mesh, and zeros for what a
    framework has besides.

    With `old`, a state of the same recipe, its graph is used again, so that steps compiled over it go on, and what made
    the rest of it: a comparison begins again and again.
    """
    tree, dtype = tree_of(recipe, dataset.classes, dataset.example_shape), master_dtype(recipe)
    if old:
        graph, shapes = old.graph, {path: x.shape for path, x in (old.weights | old.running).items()}
    else:
        graph, variables = framework.build(recipe, dataset.classes, dataset.example_shape)
        shapes = {path: variable.shape for path, variable in variables.items()}

    def initial(name):
        return initial_value(name, tree.get(name) or Parameter(shapes[name]), recipe.seed, dtype, dither)

    first = {path: born(path, shape, dtype, devices.weights(path, shape), initial, traits_of(recipe.model).blocks)
             for path, shape in shapes.items()}
    weights = {path: x for path, x in first.items() if is_trained(path)}
    running = {path: x for path, x in first.items() if not is_trained(path)}
    rest = partial(beside, recipe, framework, graph)
    begin = old.begin if old else jax.jit(rest, out_shardings=state_shardings(jax.eval_shape(rest, weights), devices))
    return begin(weights).replace(weights=weights, running=running, begin=begin)


def beside(recipe, framework, graph, weights):
    """All of a state before the first step but its weights and running statistics."""
    averages = jax.tree.map(jnp.copy, weights) if recipe.optimizer.ema else {}
    begun, held = framework.begin(recipe, weights)
    return State(jnp.zeros((), jnp.int32), {}, {}, begun, averages, graph, held, framework=framework)


def state_shardings(state, devices):
    """How each tensor of a state lies: weights by their paths, what belongs to a weight as its slots do, the rest
    whole."""

    def lying(where, x):
        name, part = path_of(where), where[0].name
        if name and part in ("optimizer", "averages"):
            return devices.slots(name, x.shape, resting=part == "optimizer")
        return devices.weights(name, x.shape) if name else devices.whole

    return jax.tree_util.tree_map_with_path(lying, state)


def at_hand(state):
    """A state whose slots are in the devices' own memory, where they can be computed with."""
    spaces = jax.memory.Space

    def brought(x):
        return jax.device_put(x, spaces.Device) if jax.typeof(x).memory_space == spaces.Host else x

    return state.replace(optimizer=jax.tree.map(brought, state.optimizer))


def make_step(recipe: Recipe, state: State, devices: "Devices", begin: Callable[..., Any] | None = None,
              add_up: Callable[..., Any] | None = None, move: Callable[..., Any] | None = None) -> "Step":
    """The step: (state, number, batch, signals) to (state, metrics). An update that is not finite changes nothing.
    `signals` are numbers of this host, three of them; their sums over all hosts are among the metrics. Of a list of
    batches, those of the steps from `number` on, it takes all steps in one call, as `together` has it.

    A stage of a compression has a `begin`, (recipe, state) to the state that the step goes by, an `add_up` in place of
    `sum_gradients` and a `move` in place of `update`.
    """
    parts, most = recipe.train.accumulate, recipe.devices.steps_per_call
    compiled = compiled_step(recipe, state, devices, begin, add_up, move)
    several = compiled_steps(recipe, state, devices, compute_step(recipe, devices, begin, add_up, move))

    def step(state, number, batch, signals=(0, 0, 0)):
        said, first = place_signals(devices, signals), jnp.int32(number)
        if isinstance(batch, Mapping):
            return compiled(state, first, place(devices, batch, parts), said)
        placed = [place(devices, each, parts) for each in batch]
        return several(state, (first, jnp.int32(len(batch))), filled(placed, most), said)

    return step


def compiled_step(recipe, state, devices, begin=None, add_up=None, move=None):
    """What `make_step` compiles: of the state, which it takes the memory of, the step's number (int32), the placed
    batch and the placed signals, to (state, metrics)."""
    return jit_step(recipe, state, devices, compute_step(recipe, devices, begin, add_up, move))


def compiled_steps(recipe, state, devices, compute):
    """Several steps in one call: as `compiled_step`, but of (the first's number, how many) and a list of batches, and
    metrics have a first axis, a row a step and nothing behind the last. However many there are, up to the list's
    length, it is one program, whose loop's body is the step."""

    def together(state, numbers, batches, signals):
        first, count = numbers
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *batches)
        shapes = jax.eval_shape(compute, state, first, batches[0], signals)[1]

        def one(i, carry):
            state, rows = carry
            batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), stacked)
            state, metrics = compute(state, first + i, batch, signals)
            return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, metrics)

        rows = jax.tree.map(lambda x: jnp.zeros((len(batches), *x.shape), x.dtype), shapes)
        return jax.lax.fori_loop(0, count, one, (state, rows))

    return jit_step(recipe, state, devices, together)


def jit_step(recipe, state, devices, compute):
    """A step or several, compiled for where its state and batches lie."""
    lying = state_shardings(state, devices)
    rows = devices.micro_batches if recipe.train.accumulate > 1 else devices.rows
    return jit(compute, compiler_options(recipe, devices), recipe.jax.xla_options, donate_argnums=0,
               out_shardings=(lying, devices.whole), in_shardings=(lying, None, rows, devices.each))


def compute_step(recipe, devices, begin=None, add_up=None, move=None):
    """The function of a step, before it is compiled."""

    def compute(old, number, batch, signals):
        with laid_out(devices):
            old = at_hand(old)
            state = begin(recipe, old) if begin else old
            gradients, running, sums = (add_up or sum_gradients)(recipe, state, number, batch)
        gradients = jax.tree.map(lambda g: g / sums["weight"].astype(g.dtype), gradients)
        gradients, norm = clip(gradients, recipe.optimizer.clip_norm)
        metrics = {name: sums[key] / sums["weight"] for name, key in MEANS.items() if key in sums}
        metrics |= {"gradient_norm": norm, "learning_rate": rates(recipe)(state.step), "signals": signals.sum(0)}
        moved = (move or update)(recipe, state.replace(running=running), gradients)
        due = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm) & (number == old.step)
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), moved, old), metrics

    return compute


def update(recipe, state, gradients):
    """The state with weights, the optimizer's slots and averages moved by one update of clipped gradients."""
    weights, moments = state.framework.move(recipe, state, gradients)
    averages = average(state.averages, weights, recipe.optimizer.ema) if state.averages else {}
    return state.replace(step=state.step + 1, weights=weights, optimizer=moments, averages=averages)


def sum_gradients(recipe, state, number, batch, objective=None):
    """Gradients of the summed loss over the micro-batches of one update, which lie along a first axis where there are
    several, the running statistics after it, and the sums of its statistics. `objective` is as `plain_objective`."""
    key = bits.step_key(recipe.seed, number)

    def one(running, part):
        def compute(weights, *given):
            return (objective or plain_objective)(recipe, state, still(recipe, weights), *given)

        gradients, (running, sums) = jax.grad(compute, has_aux=True)(state.weights, running, part, key)
        return running, (lay_weights(gradients), sums)

    if recipe.train.accumulate == 1:
        running, (gradients, sums) = one(state.running, batch)
        return gradients, running, sums
    # Where rows know nothing of each other, devices that hold the same weights add up by themselves, and then once.
    each, together = (one, lambda values: values) if state.running else shares_apart(one)

    def add(carry, part):
        running, totals = carry
        running, values = each(running, part)
        return (running, jax.tree.map(jnp.add, totals, values)), None

    shapes = jax.eval_shape(each, state.running, {name: x[0] for name, x in batch.items()})[1]
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (running, values), _ = jax.lax.scan(add, (state.running, nothing), batch)
    gradients, sums = together(values)
    return lay_weights(gradients), running, sums


def plain_objective(recipe, state, weights, running, batch, key):
    """The summed loss of a micro-batch in training, with (the running statistics after it, its sums)."""
    weights = adapted(recipe, weights, key)
    inputs = batch_loss.model_inputs(recipe, batch, key)
    if (count := recipe.jax.loss_chunks) > 1:
        model_of, judge = partial(module_of, state.graph), lambda *of: (state.framework.loss_sums(recipe, *of), {})
        (total, sums), _ = in_chunks(model_of, weights, (inputs, batch), judge, count, training=True)
        return total, (running, sums)
    logits, running = forward(recipe, state.graph, weights, running, inputs, training=True)
    total, sums = state.framework.loss_sums(recipe, logits, batch)
    return total, (running, sums)


def forward(recipe, graph, weights, running, inputs, training=False):
    """(logits, running statistics after it) of a model's graph with tensors by path."""
    model = module_of(graph, adapted(recipe, weights), running)
    return model(inputs, training=training), running_of(model)


def module_of(graph, weights, running=MappingProxyType({})):
    """The module of a graph with tensors by path; one that is not Flax' makes its own."""
    if not isinstance(graph, nnx.GraphDef):
        return graph.module(weights, running)
    variables = {path: nnx.Param(x) for path, x in weights.items()}
    return merge(graph, variables | {path: nnx.BatchStat(x) for path, x in running.items()})


def running_of(model):
    """{path: array} of a module's running statistics."""
    if not isinstance(model, nnx.Module):
        return model.running
    return {".".join(path): v[...] for path, v in nnx.to_flat_state(nnx.state(model, nnx.BatchStat))}


def evaluated(state):
    """What an evaluation takes for the weights: their averages where there are any, by path."""
    return state.averages or state.weights


def make_evaluate(recipe: Recipe, state: State, devices: "Devices", compute_logits: Callable[..., Any] | None = None
                  ) -> "Callable[..., dict[str, float]]":
    """Evaluation: (state, batches, keep=None) to the summed statistics, with the averaged weights where there are any.
    `keep` is given what is predicted, where a metric is of classes. `compute_logits` is in place of `forward`."""
    chunks = chunks_of(recipe) if compute_logits is None and judge_apart(recipe.train.metrics) else 1
    judge = lambda x, batch: judged(jnp, recipe, x, batch["labels"], batch["weights"].astype(x.dtype))  # noqa: E731

    def compute(state, batch):
        weights, inputs = evaluated(state), batch_loss.model_inputs(recipe, batch, jnp.zeros(2, jnp.uint32))
        with laid_out(devices):
            if chunks == 1:
                return judge((compute_logits or forward)(recipe, state.graph, weights, state.running, inputs)[0], batch)
            return in_chunks(partial(module_of, state.graph), adapted(recipe, weights), (inputs, batch), judge, chunks)

    compiled = jax.jit(compute, in_shardings=(state_shardings(state, devices), devices.rows),
                       out_shardings=devices.whole)

    def evaluate(state, batches, keep=None):
        own = ({name: x[devices.reader::devices.readers] for name, x in batch.items()} for batch in batches)
        return total(handed(compiled(state, place(devices, rows)), keep) for rows in own)

    return evaluate


def state_arrays(state):
    """{"weights/NAME" and each slot's "m/NAME", "v/NAME", "ema/NAME": array where it lies}."""
    groups = {"weights": {**state.weights, **state.running}} | slots(at_hand(state).optimizer, state.held)
    groups |= {"ema": state.averages} if state.averages else {}
    return {f"{group}/{name}": x for group, tensors in groups.items()
            for name, x in canonical_variables(tensors).items()}


def state_tensors(state: State) -> "Tensors":
    """`state_arrays` as NumPy arrays, on every host all of them."""
    return {name: whole(x) for name, x in state_arrays(state).items()}


def whole(x):
    """An array as NumPy array, of which this host may hold a part alone."""
    parted = isinstance(x, jax.Array) and not x.is_fully_addressable and not x.is_fully_replicated
    return np.asarray(multihost_utils.process_allgather(x, tiled=True) if parted else x)


def with_tensors(recipe: Recipe, state: Any, devices: "Devices", tensors: "Tensors", step: int) -> State:
    """A state with all of `state_tensors` in place and `step` updates done: another backend's training goes on here.

    Raises BadInput where names or shapes are others.
    """
    wanted = jax.eval_shape(state_arrays, state)
    if theirs := optimizer_of(recipe.optimizer).theirs:
        tensors, wanted = in_both(tensors, wanted)
    check_tensors(tensors, wanted)

    def placed(group, path, x):
        if theirs and all(f"{group}/{name}" not in tensors for name in canonical_variables({path: x})):
            return x
        return born(path, x.shape, x.dtype, x.sharding, lambda name: tensors[f"{group}/{name}"],
                    traits_of(recipe.model).blocks)

    def group(name, tensors):
        return {path: placed(name, path, x) for path, x in tensors.items()}

    def counted(x):
        return jax.device_put(np.asarray(step, x.dtype), devices.whole)

    return state.replace(step=jax.device_put(np.int32(step), devices.whole), weights=group("weights", state.weights),
                         running=group("weights", state.running), averages=group("ema", state.averages),
                         optimizer=with_slots(state.optimizer, state.held, placed, counted))
