"""The operations of this backend's models and trainer, one by one, for `common/operations/judge.py` to judge."""

import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
from keras import ops

from twinscale.common.data import open_dataset
from twinscale.common.operations.judge import expected, operation_rows
from twinscale.common.operations.references import (
    BIAS,
    CHANNELS,
    CLASSES,
    CLIP,
    CONVNET,
    DECODER,
    DTYPES,
    HEAD,
    HEADS,
    IMAGE,
    KERNEL,
    LOSSES,
    MLP,
    NORM_EPSILON,
    NORM_MOMENTUM,
    PLACE,
    ROTARY_BASE,
    WIDTH,
    T,
    moment_of,
    recipe_of,
    shape_of,
    trial_of,
)
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.common.section import FreeTable
from twinscale.common.training import session
from twinscale.tfscale import models
from twinscale.tfscale.batch_loss import loss_sums
from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.models import POLICIES, build
from twinscale.tfscale.models.layers import activation, layers
from twinscale.tfscale.optimizer import average, clip, make_optimizer, slots
from twinscale.tfscale.runtimes import GIVEN, as_tensor, device, nest, on_tensorflow

STOCK_LAYERS = "BatchNormalization", "LayerNormalization", "RMSNormalization", "GlobalAveragePooling2D"
STOCK = ExitStack()  # what `use_stock` holds open


def operations(dtype: str, jit_compile: bool = True, added: Iterable[str] = ()
               ) -> dict[str, Callable[..., list[np.ndarray]]]:
    """{name: function of NumPy arrays to a list of them} of the operations of `common/operations/judge.py`, run by the
    very layers and functions that the models and the trainer use, compiled as the trainer compiles. Weights come as
    masters; what layers compute in bfloat16 they cast themselves."""
    policy, own = POLICIES[dtype], layers(keras)
    decoder, convnet = (functools.partial(part, dtype, model) for model in (DECODER, CONVNET))
    act = {name: keras.layers.Activation(activation(name), dtype=policy)
           for name in ("gelu", "gelu_tanh", "swiglu", "relu")}
    dense, tied = weighted(decoder("block_0.feedforward.down")), weighted(decoder("embedding"))
    layer_norm, rms_norm = weighted(decoder("norm")), weighted(decoder("norm", norm="rms"))
    conv_1, conv_2 = (weighted(convnet(f"stage_{stage}.block_0.conv_1")) for stage in (0, 1))
    batch_norm = moving(convnet("stem.norm"))
    attention, multiply = attention_of(dtype), keras.layers.Multiply(dtype=policy)
    drop = decoder(PLACE)
    turn = own.Rotary(T, ROTARY_BASE, dtype=policy)
    head = lambda x, table: tied(narrow(x, dtype), table, reverse=True)  # noqa: E731
    found = {
        "embedding": tied,
        "embedding gradient": gradient(tied, by=(1,)),
        "dropout": lambda x, row, key: drop(x, row, key, training=True),
        "layer norm": layer_norm,
        "layer norm gradient": gradient(layer_norm, by=(0, 1, 2)),
        "rms norm": rms_norm,
        "rms norm gradient": gradient(rms_norm, by=(0, 1)),
        "dense": dense,
        "dense gradient": gradient(dense, by=(0, 1, 2)),
        "rotary": turn,
        "attention scores": attention,
        "softmax": attention,
        "softmax gradient": gradient(attention, by=(0, 2)),
        "attention mix": attention,
        "gelu": act["gelu"],
        "gelu gradient": gradient(act["gelu"]),
        "gelu_tanh": act["gelu_tanh"],
        "gelu_tanh gradient": gradient(act["gelu_tanh"]),
        "swiglu": lambda gate, up: multiply([act["swiglu"](gate), up]),
        "swiglu gradient": gradient(lambda gate, up: multiply([act["swiglu"](gate), up]), by=(0, 1)),
        "relu": act["relu"],
        "relu gradient": gradient(act["relu"]),
        "tied head": head,
        "tied head gradient": gradient(head, by=(0, 1)),
        "conv stride 1": conv_1,
        "conv stride 2": conv_2,
        "conv gradient": gradient(conv_2, by=(0, 1)),
        "batch norm": batch_norm,
        "batch norm gradient": gradient(lambda *arrays: batch_norm(*arrays)[0], by=(0, 1, 2)),
        "pool": convnet("pool"),
    }
    for name, train in LOSSES.items():
        recipe = recipe_of(dtype, DECODER, train=train)
        objective = functools.partial(objective_of, recipe)
        found |= {name: objective, f"{name} gradient": gradient(objective, by=(0, 2))}
    found |= {"clip": lambda *gradients: flat(clip(list(gradients), CLIP))}
    return compiled({name: found[name] if name in found else updated(dtype, name) for name in expected(dtype, added)},
                    jit_compile)


def stock(dtype: str, jit_compile: bool = True) -> dict[str, Callable[..., list[np.ndarray]]]:
    """The same of what the framework would do in the place of ours; "stock NAME" is judged as the operation NAME."""
    policy = POLICIES[dtype]
    settings = {"epsilon": NORM_EPSILON, "momentum": NORM_MOMENTUM, "dtype": policy}
    norm = built(keras.layers.BatchNormalization(synchronized=on_tensorflow(), **settings), (None, *IMAGE, CHANNELS[0]))
    table = built(keras.layers.Embedding(CLASSES, WIDTH, dtype=policy), (None, T))
    found = {"stock gelu": lambda x: keras.activations.gelu(narrow(x, dtype), approximate=False),
             "stock gelu_tanh": lambda x: keras.activations.gelu(narrow(x, dtype), approximate=True),
             "stock batch norm": moving(norm),
             "stock embedding gradient": gradient(weighted(table), by=(1,))}
    if dtype != "bfloat16" and on_tensorflow():
        import tensorflow as tf

        found["stock clip"] = lambda *gradients: flat(tf.clip_by_global_norm(list(gradients), CLIP))
    return compiled(found, jit_compile)


@contextmanager
def stock_operations() -> Iterator[None]:
    """While open, models are built with what Keras would do in the place of ours: its GELU and its norms."""
    def activation_of(name):
        if name not in ("gelu", "gelu_tanh"):
            return activation(name)
        return functools.partial(keras.activations.gelu, approximate=name == "gelu_tanh")

    with patch.object(models.decoder, "activation", activation_of), \
            patch.object(models.mlp, "activation", activation_of), \
            patch.multiple(layers(keras), **{name: getattr(keras.layers, name) for name in STOCK_LAYERS}):
        yield


def use_stock(on: bool) -> None:
    """Whether this process builds its models with `stock_operations`; those that it has are forgotten."""
    STOCK.close()
    session.SESSIONS.clear()
    if on:
        STOCK.enter_context(stock_operations())


def implementations(recipe: Any) -> dict[str, str]:
    """{place: what computes it} of the model of a recipe (a dict): a layer's class, or an activation's function and the
    runtime's own that Keras' stands for."""
    recipe = Recipe.model_validate(recipe).with_values(train={"precision": "float32"})
    dataset, runtime = open_dataset(recipe), {"tensorflow": "tf"}.get(keras.backend.backend(), keras.backend.backend())

    def named(layer):
        if not isinstance(layer, keras.layers.Activation):
            return type(layer).__name__
        function = getattr(layer.activation, "func", layer.activation)  # of a partial
        if function.__module__.startswith("keras."):
            return f"keras.activations.{function.__name__} ({runtime}.nn.{function.__name__})"
        return f"{function.__module__}.{function.__name__}"

    model = build(recipe, dataset.classes, dataset.example_shape, keras)
    return {layer.name: named(layer) for layer in model.layers}


def measured(dtypes: Iterable[str] = DTYPES, jit_compile: bool | None = None, added: Iterable[str] = ()
             ) -> list[dict[str, Any]]:
    """`operation_rows` of this backend, and the framework's own: with XLA and as a plain graph, or as `jit_compile`
    says, on JAX by XLA alone; of optimizers that a recipe has `added` too."""
    rows, ways = [], (True, False) if jit_compile is None else (jit_compile,)
    for with_xla in ways if on_tensorflow() else (True,):
        how = "XLA" if with_xla else "graph"
        for functions in (functools.partial(operations, added=added), stock):
            rows += operation_rows("keras", functools.partial(functions, jit_compile=with_xla), dtypes, how, device())
    return rows


def compiled(functions: Mapping[str, Callable[..., Any]], jit_compile: bool
             ) -> dict[str, Callable[..., list[np.ndarray]]]:
    """Each function as the runtime compiles it, tf.function or what it has given, from and to NumPy arrays; one that
    several names share is compiled once."""
    @functools.cache
    def one(function):
        if not on_tensorflow():
            traced = GIVEN["jit"](lambda *inputs: flat(function(*inputs)))
            return lambda *arrays: [widened(x) for x in traced(*map(as_tensor, arrays))]
        import tensorflow as tf

        graph = tf.function(lambda *inputs: flat(function(*inputs)), jit_compile=jit_compile, autograph=False)
        return lambda *arrays: [widened(x) for x in graph(*map(tf.constant, arrays))]

    return {name: one(function) for name, function in functions.items()}


def gradient(function: Callable[..., Tensor], by: Sequence[int] = (0,)) -> Callable[..., list[Tensor]]:
    """The function's gradient by some of its inputs, given those and then that of its output."""
    def of_runtime(*inputs):
        *inputs, dy = inputs

        def of(*moved):
            values = dict(zip(by, moved, strict=True))
            return function(*(values.get(i, x) for i, x in enumerate(inputs)))

        y, back = GIVEN["vjp"](of, *(inputs[i] for i in by))
        return list(back(ops.cast(dy, y.dtype)))

    def backward(*inputs):
        import tensorflow as tf

        *inputs, dy = inputs
        with tf.GradientTape() as tape:
            tape.watch([inputs[i] for i in by])
            y = function(*inputs)
        found = tape.gradient(y, [inputs[i] for i in by], output_gradients=tf.cast(dy, y.dtype))
        return [tf.convert_to_tensor(g) for g in found]  # dense, as the trainer has it

    return backward if on_tensorflow() else of_runtime


@functools.cache
def model_of(dtype: str, model: FreeTable, length: int = T, **changes: Any) -> keras.Model:
    """The model of the operations' recipe, on `length` tokens or small images."""
    return build(recipe_of(dtype, model, model=changes), CLASSES, shape_of(model, length), keras)


def part(dtype: str, model: FreeTable, name: str, **changes: Any) -> keras.layers.Layer:
    """A layer of that model."""
    return model_of(dtype, model, **changes).get_layer(name)


def attention_of(dtype: str) -> Callable[..., Tensor]:
    """The model's attention as a function of queries, keys, values and segments: whatever stands between them and the
    mix."""
    whole = model_of(dtype, DECODER, length=HEAD, width=HEAD * HEADS)
    ends = [whole.get_layer(f"block_0.attention.{name}.heads").output for name in ("query", "key", "value")]
    inner = keras.Model([*ends, whole.input["segments"]], whole.get_layer("block_0.attention.mix").output)
    return lambda *inputs: inner(inputs)


def built(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> keras.layers.Layer:
    """The layer with its weights, for inputs of `shape` (None: any number): `called` asks for them before there is an
    input."""
    layer.build(shape)
    return layer


def called(layer: keras.layers.Layer, weights: Iterable[Tensor], state: Iterable[Tensor], x: Tensor,
           **options: Any) -> tuple[Any, list[Tensor]]:
    """(output, state after it) of a layer that is called as a model calls it, which casts input and weights to what it
    computes in: its own `stateless_call` leaves that out, and would compute bfloat16 in float32."""
    variables = [*layer.trainable_variables, *layer.non_trainable_variables]
    with keras.StatelessScope(list(zip(variables, [*weights, *state], strict=True))) as scope:
        y = layer(x, **options)
        return y, [scope.get_current_value(v) for v in layer.non_trainable_variables]


def weighted(layer: keras.layers.Layer) -> Callable[..., Tensor]:
    """A layer as a function of its input and its weights."""
    return lambda x, *weights, **options: called(layer, weights, [], x, **options)[0]


def moving(layer: keras.layers.Layer) -> Callable[..., list[Tensor]]:
    """A batch norm as a function of input, scale, bias and running statistics to its output and those after it."""
    def call(x, scale, bias, mean, variance):
        y, after = called(layer, [scale, bias], [mean, variance], x, training=True)
        return [y, *after]

    return call


def objective_of(recipe: Recipe, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """What the trainer minimises, a scalar: the sum over positions of logits (..., classes), by labels and weights
    (...). Alone, so that `gradient` can be taken of it."""
    return loss_sums(recipe, logits, {"labels": labels, "weights": weights})[0]


def updated(dtype: str, name: str) -> Callable[..., list[Tensor]]:
    """The trainer's update of a kernel and a bias by an optimizer, as `common.operations.judge.optimizer_cases` has
    them."""
    recipe = recipe_of(dtype, MLP, optimizer=trial_of(name))
    shapes = {KERNEL: (16, 8), BIAS: (8,)}
    trained = {name: keras.Variable(np.zeros(shape), dtype=master_dtype(recipe)) for name, shape in shapes.items()}
    update, variable_of = of_trainer()
    averages = [variable_of(v.value) for v in trained.values()]
    state = types.SimpleNamespace(trained=trained, optimizer=make_optimizer(recipe, trained), averages=averages)

    def step(*given):
        with nullcontext() if on_tensorflow() else keras.StatelessScope():
            return moved(*given)

    def moved(kernel, bias, done):
        state.optimizer.iterations.assign(ops.cast(done, state.optimizer.iterations.dtype))
        held = slots(state.optimizer)
        for i, (variable, tensor) in enumerate(zip(trained.values(), (kernel, bias), strict=True)):
            variable.assign(tensor[0])
            averages[i].assign(tensor[4])
            for slot, variables in held.items():
                variables[i].assign(tensor[2 + moment_of(slot)])
        update(recipe, state, [kernel[1], bias[1]])
        return [ops.copy(v) for i, w in enumerate(trained.values())
                for v in (w.value, *(variables[i].value for variables in held.values()), averages[i])]

    return step


def of_trainer() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(the trainer's update of a recipe, a state and gradients, what its averages are variables of)."""
    if on_tensorflow():
        import tensorflow as tf

        from twinscale.tfscale.train import update

        return update, tf.Variable

    def moved(recipe, state, gradients):
        state.optimizer.apply(gradients, list(state.trained.values()))
        average(state.averages, state.trained.values(), recipe.optimizer.ema)

    return moved, keras.Variable


def narrow(x: Tensor, dtype: str) -> Tensor:
    """x in the dtype that is computed in, to which a layer casts what it is given, and a bare function does not."""
    return ops.cast(x, dtype)


def flat(values: Any) -> list[Tensor]:
    """The tensors of what a function gives, one or nested, in order: what is judged is a list."""
    return nest().flatten(values)


def widened(x: Tensor) -> np.ndarray:
    """A tensor as a NumPy array; bfloat16 as float32."""
    return ops.convert_to_numpy(ops.cast(x, "float32") if keras.backend.standardize_dtype(x.dtype) == "bfloat16" else x)
