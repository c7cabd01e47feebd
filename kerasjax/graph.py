"""A functional Keras model as what `jaxscale.train` steps through: its layers, without values, and the weights that a
step holds, by path. Blocks that are alike run one after another, rematerialised or under one scan, as Flax' do."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras

from twinscale.common.families import FAMILIES, family_of, traits_of
from twinscale.common.families.adapters import is_adapter
from twinscale.common.families.places import places
from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.devices_arrays import lay_columns, sequence_shared
from twinscale.jaxscale.models.decoder import attention_by
from twinscale.jaxscale.models.layers import kept_by
from twinscale.jaxscale.taps import named, scope, tap
from twinscale.tfscale.models import build as build_keras
from twinscale.tfscale.models import canonical_variables
from twinscale.tfscale.program_dtypes import exact_promotion

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

# The place that a decoder's logits are made of, that of the table, and how names of the blocks under a scan begin.
HEAD, TABLE, FIRST = "norm", "embedding", "block_0."


class Graph:
    """The parts of a model, one after another, and its variables, which hold no values."""

    def __init__(self, recipe: "Recipe", model: keras.Model) -> None:
        self.model, self.execution, self.variables = model, recipe.jax, canonical_variables(model)
        self.numbers = partial(exactly, recipe.model.family not in FAMILIES.builtin)
        known = places(recipe.model)
        for layer in model._flatten_layers(include_self=False):
            if {layer.name, getattr(layer, "reverse_place", "")} & known.keys():
                object.__setattr__(layer, "call", shown(layer, known, recipe.train.precision))
        blocks = traits_of(recipe.model).blocks
        self.blocks = range(blocks if any(name.startswith(FIRST) for name in self.variables) else 0)
        whole, ends = model.inputs, [last_of(model, f"block_{i}.") for i in self.blocks]
        starts = [first_read(model, FIRST), *ends[:-1]] if ends else []
        self.before = keras.Function(whole, starts[0]) if ends else None
        self.bodies = [keras.Function([start, *whole], end) for start, end in zip(starts, ends, strict=True)]
        tail = [ends[-1], *whole] if ends else whole
        middle = model.get_layer(HEAD).output if family_of(recipe.model).name == "decoder" else None
        self.hidden = None if middle is None else keras.Function(tail, middle)
        self.after = keras.Function(tail if middle is None else [middle], model.output)

    def module(self, weights: Mapping[str, Any], running: Mapping[str, Any]) -> "Module":
        """The model with tensors by path."""
        return Module(self, weights, running)

    def shapes(self) -> dict[str, Any]:
        """{path: ShapeDtypeStruct} of the model's tensors: of blocks under a scan one with a first axis of them.
        Adapters have canonical names all the same, as `jaxscale.adapters.adapted` takes them."""
        found = {name: jax.ShapeDtypeStruct(tuple(v.shape), v.dtype) for name, v in self.variables.items()}
        if not (self.execution.scan and self.blocks):
            return found
        inside = {name: x for name, x in found.items() if name.startswith("block_") and not is_adapter(name)}
        stacked = {f"blocks.{name.removeprefix(FIRST)}": jax.ShapeDtypeStruct((len(self.blocks), *x.shape), x.dtype)
                   for name, x in inside.items() if name.startswith(FIRST)}
        return {name: x for name, x in found.items() if name not in inside} | stacked


class Module:
    """A model with tensors by path; `running` are its statistics, after a call those that it leaves."""

    def __init__(self, graph: Graph, weights: Mapping[str, Any], running: Mapping[str, Any]) -> None:
        self.graph, self.weights, self.running = graph, weights, dict(running)

    def __call__(self, inputs: Mapping[str, jax.Array], training: bool = False) -> jax.Array:
        """Logits of the model's inputs."""
        if self.graph.hidden is not None:
            return self.logits(self.hidden(inputs, training))
        return self.run(self.graph.after, self.through_blocks(inputs, training), training)

    def hidden(self, inputs: Mapping[str, jax.Array], training: bool = False) -> jax.Array:
        """What a decoder's head reads, (B, T, D)."""
        return self.run(self.graph.hidden, self.through_blocks(inputs, training), training)

    def logits(self, x_BxTxD: jax.Array) -> jax.Array:
        """(B, T, V) of what `hidden` makes of any positions."""
        return self.run(self.graph.after, [x_BxTxD], False)

    def run(self, part: keras.Function, given: Sequence[jax.Array], training: bool) -> jax.Array:
        """What a part that is no block makes of its inputs."""
        tensors = {name: x for name, x in self.weights.items() if not name.startswith("blocks.")} | self.running
        y, moved = run(part, self.graph, tensors, given, training)
        self.running = {name: moved(name) for name in self.running}
        return y

    def through_blocks(self, inputs: Mapping[str, jax.Array], training: bool) -> list[jax.Array]:
        """What the parts behind the blocks read: what these make of the inputs, and the inputs."""
        graph = self.graph
        given = [inputs[x.name] for x in graph.model.inputs]
        if not graph.blocks:
            return given
        x = self.run(graph.before, given, training)
        words = [drop_words(graph.bodies[0], i) for i in graph.blocks]

        def body(i, x, weights, places):
            with named(graph.execution.named):
                return run(graph.bodies[i], graph, weights, [x, *given], training, places)[0]

        if graph.execution.remat != "none":
            body = jax.checkpoint(body, policy=kept_by(graph.execution), static_argnums=0)
        if graph.execution.scan:
            weights = {name.replace("blocks.", FIRST, 1): x for name, x in self.weights.items()
                       if name.startswith("blocks.")}
            stacked = {name: jnp.array([of[name] for of in words], jnp.uint32) for name in words[0]}
            x = jax.lax.scan(lambda x, of: (body(0, x, *of), None), x, (weights, stacked))[0]
            return [x, *given]
        for i in graph.blocks:
            x = body(i, x, {name: w for name, w in self.weights.items() if name.startswith(f"block_{i}.")}, {})
        return [x, *given]


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int]) -> tuple[Graph, dict[str, Any]]:
    """(graph, {path: ShapeDtypeStruct}) of a recipe's model, as `tfscale.models.build` makes it. None of its tensors is
    made: they are born where they lie. One that computes while it is built, a user's own, is built with values."""
    made = []

    def model():
        # Asked for by name, einsum is the program's own, whose places can be read.
        trained = recipe.jax.attention != "einsum" and attention_of(recipe)
        made.append(build_keras(recipe, classes, example_shape, keras, trained))

    if traits_of(recipe.model).foreign:
        model()
    else:
        jax.eval_shape(model)
    graph = Graph(recipe, made[0])
    return graph, graph.shapes()


def attention_of(recipe: "Recipe") -> Callable[..., jax.Array]:
    """A decoder's causal attention as `jaxscale` computes it on the devices that it is traced for."""

    def attended(name, q, k, v, segments):
        with scope(name):
            return attention_by(recipe.jax, q, k, v, segments)

    return attended


def run(part: keras.Function, graph: Graph, tensors: Mapping[str, Any], given: Sequence[jax.Array],
        training: bool, places: Mapping[str, Any] = {}) -> tuple[jax.Array, Callable[[str], jax.Array]]:
    """(what a part of a graph makes of its inputs, what its call leaves of a tensor by name)."""

    def told(operation):
        more = {"training": training} if getattr(operation, "_call_has_training_arg", False) else {}
        more |= {"place": places[operation.name]} if operation.name in places else {}
        return partial(operation, **more) if more else operation

    variables = graph.variables
    with keras.StatelessScope([(variables[name], x) for name, x in tensors.items()]) as scope, graph.numbers():
        y = part._run_through_graph(list(given), operation_fn=told)  # by `call` its inputs would need their own shapes
    return y, lambda name: scope.get_current_value(variables[name])


def shown(layer: keras.Layer, known: Mapping[str, Any], precision: str) -> Callable[..., Any]:
    """A layer's call, whose output lies on the mesh as its place does, and can be read there. Rows of a table are
    rounded where they are read, as whoever gets them would, those of the large one where they lie as its width is cut:
    what is sent between devices is narrow."""
    call = flat(layer.call) if isinstance(layer, keras.layers.Dense) else layer.call

    def changed(*args, **kwargs):
        place, y = layer.reverse_place if kwargs.get("reverse") else layer.name, call(*args, **kwargs)
        if isinstance(layer, keras.layers.Embedding) and not kwargs.get("reverse"):
            y = lay_columns(y.astype(precision)) if place == TABLE else y.astype(precision)
        return tap(place, y) if place in known else y

    return changed


def flat(call: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A dense layer's call by rows: on a CPU one flat product takes half as long. Rows and positions that are both
    shared cannot be one axis."""

    def by_rows(x, *args, **kwargs):
        if x.ndim < 3 or sequence_shared():
            return call(x, *args, **kwargs)
        return call(x.reshape(-1, x.shape[-1]), *args, **kwargs).reshape(*x.shape[:-1], -1)

    return by_rows


def first_read(model: keras.Model, prefix: str) -> Any:
    """What the first layer of a block reads, of a model in forward order."""
    return next(layer for layer in model.layers if layer.name.startswith(prefix)).input


def last_of(model: keras.Model, prefix: str) -> Any:
    """What the last layer of a block makes."""
    return [layer for layer in model.layers if layer.name.startswith(prefix)][-1].output


def exactly(theirs: bool) -> AbstractContextManager[Any]:
    """While open, Keras keeps float64 where what is asked is `theirs`, a user's own; ours does so by itself."""
    return exact_promotion() if theirs else nullcontext()


def drop_words(body: keras.Function, block: int) -> dict[str, int]:
    """{name of a layer of the first block that draws: the word of its place in another block}."""
    return {layer.name: name_word(layer.name.replace(FIRST, f"block_{block}.", 1)) for layer in body.operations
            if type(layer).__name__ == "SharedDropout"}
