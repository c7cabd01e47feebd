"""The operations of this backend's models and trainer, one by one, for `common/operations/judge.py` to judge."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from twinscale.common.numbers.bits import name_word
from twinscale.common.operations.judge import expected, operation_rows
from twinscale.common.operations.references import (
    BIAS,
    CHANNELS,
    CLASSES,
    CLIP,
    CONVNET,
    DECODER,
    DTYPES,
    HIDDEN,
    KERNEL,
    LOSSES,
    MLP,
    NORM_EPSILON,
    NORM_MOMENTUM,
    PLACE,
    RATE,
    ROTARY_BASE,
    WIDTH,
    T,
    moment_of,
    recipe_of,
    shape_of,
    trial_of,
)
from twinscale.common.recipe.schema import master_dtype
from twinscale.common.section import FreeTable
from twinscale.jaxscale.batch_loss import loss_sums
from twinscale.jaxscale.models import POLICIES, build, merge
from twinscale.jaxscale.models.layers import activation, attend, causal_attention, dropout, rotary
from twinscale.jaxscale.optimizer import clip, fields, make_optimizer, slots, with_slots
from twinscale.jaxscale.train import State, update

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def operations(dtype: str, added: Iterable[str] = ()) -> dict[str, Callable[..., list[np.ndarray]]]:
    """{name: function of NumPy arrays to a list of them} of the operations of `common/operations/judge.py`, run by the
    very modules and functions that the models and the trainer use, jitted as the trainer jits. Weights come as masters,
    all else as the compute dtype; what stands in a model's own lines alone (`mean`, the product of SwiGLU) stands here
    again."""
    policy = POLICIES[dtype]
    decoder, convnet = (functools.partial(part, dtype, model) for model in (DECODER, CONVNET))
    act = {name: takes(policy, activation(name)) for name in ("gelu", "gelu_tanh", "swiglu", "relu")}
    dense, table = decoder("block_0.feedforward.down", "kernel", "bias"), decoder("embedding", "embedding")
    layer_norm, rms_norm = decoder("norm", "scale", "bias"), decoder("norm", "scale", norm="rms")
    conv_1, conv_2 = (convnet(f"stage_{stage}.block_0.conv_1", "kernel") for stage in (0, 1))
    batch_norm = moving(convnet("stem.norm", "scale", "bias", "mean", "var", whole=True))
    attention = takes(policy, causal_attention, (0, 1, 2))
    with_key = lambda x, row, key: dropout(x, {"row": row, "key": key}, RATE, name_word(PLACE), True)  # noqa: E731
    swiglu = takes(policy, lambda gate, up: activation("swiglu")(gate) * up, (0, 1))
    lookup = lambda ids, weight: table(ids, weight).astype(policy)  # noqa: E731
    tied = decoder("embedding", "embedding", whole=True)
    head = takes(policy, lambda x, weight: attend(tied(weight), x))
    found = {
        "embedding": lookup,
        "embedding gradient": gradient(lookup, by=(1,)),
        "dropout": takes(policy, with_key),
        "layer norm": layer_norm,
        "layer norm gradient": gradient(layer_norm, by=(0, 1, 2)),
        "rms norm": rms_norm,
        "rms norm gradient": gradient(rms_norm, by=(0, 1)),
        "dense": dense,
        "dense gradient": gradient(dense, by=(0, 1, 2)),
        "rotary": takes(policy, lambda x, positions: rotary(x, positions, T, ROTARY_BASE)),
        "attention scores": attention,
        "softmax": attention,
        "softmax gradient": gradient(attention, by=(0, 2)),
        "attention mix": attention,
        "gelu": act["gelu"],
        "gelu gradient": gradient(act["gelu"]),
        "gelu_tanh": act["gelu_tanh"],
        "gelu_tanh gradient": gradient(act["gelu_tanh"]),
        "swiglu": swiglu,
        "swiglu gradient": gradient(swiglu, by=(0, 1)),
        "relu": act["relu"],
        "relu gradient": gradient(act["relu"]),
        "tied head": head,
        "tied head gradient": gradient(head, by=(0, 1)),
        "conv stride 1": conv_1,
        "conv stride 2": conv_2,
        "conv gradient": gradient(conv_2, by=(0, 1)),
        "batch norm": batch_norm,
        "batch norm gradient": gradient(lambda *arrays: batch_norm(*arrays)[0], by=(0, 1, 2)),
        "pool": takes(policy, lambda x: jnp.mean(x, (1, 2))),
    }
    for name, train in LOSSES.items():
        recipe = recipe_of(dtype, DECODER, train=train)
        objective = functools.partial(objective_of, recipe)
        found |= {name: objective, f"{name} gradient": gradient(objective, by=(0, 2))}
    found |= {"clip": lambda *gradients: clip(list(gradients), CLIP)}
    return compiled({name: found[name] if name in found else updated(dtype, name) for name in expected(dtype, added)},
                    dtype)


def stock(dtype: str) -> dict[str, Callable[..., list[np.ndarray]]]:
    """The same of what the framework would do in the place of ours; "stock NAME" is judged as the operation NAME."""
    policy = POLICIES[dtype]
    kinds = {"dtype": policy, "param_dtype": jnp.dtype(master_dtype(recipe_of(dtype, MLP)))}

    def module(kind, *names, whole=False, **settings):
        with jax.enable_x64(dtype == "float64"):
            return called(nnx.eval_shape(lambda: kind(**settings, **kinds, rngs=nnx.Rngs(0))), *names, whole=whole)

    dense = module(nnx.Linear, "kernel", "bias", in_features=HIDDEN, out_features=WIDTH)
    table = module(nnx.Embed, "embedding", num_embeddings=CLASSES, features=WIDTH)
    layer_norm = module(nnx.LayerNorm, "scale", "bias", num_features=WIDTH, epsilon=NORM_EPSILON)
    batch_norm = module(nnx.BatchNorm, "scale", "bias", "mean", "var", whole=True, num_features=CHANNELS[0],
                        epsilon=NORM_EPSILON, momentum=NORM_MOMENTUM)

    def clipped(*gradients):
        limit = optax.clip_by_global_norm(CLIP)
        return [limit.update(list(gradients), limit.init(None))[0], optax.tree.norm(gradients)]

    found = {"stock gelu": takes(policy, lambda x: nnx.gelu(x, approximate=False)),
             "stock gelu_tanh": takes(policy, nnx.gelu),
             "stock layer norm": layer_norm,
             "stock batch norm": moving(batch_norm),
             "stock dense gradient": gradient(dense, by=(0, 1, 2)),
             "stock embedding gradient": gradient(table, by=(1,))}
    if dtype != "bfloat16":
        found["stock clip"] = clipped
    return compiled(found, dtype)


def measured(dtypes: Iterable[str] = DTYPES, jit_compile: bool | None = None, added: Iterable[str] = ()
             ) -> list[dict[str, Any]]:
    """`operation_rows` of this backend, and the framework's own; it has one way to compile, whatever `jit_compile`. Of
    optimizers that a recipe has `added` too."""
    device, ours = jax.default_backend(), functools.partial(operations, added=added)
    return [row for functions in (ours, stock) for row in operation_rows("jax", functions, dtypes, "jit", device)]


def compiled(functions: Mapping[str, Callable[..., Any]], dtype: str) -> dict[str, Callable[..., list[np.ndarray]]]:
    """Each function under jit, from and to NumPy arrays; one that several names share is compiled once."""
    @functools.cache
    def one(function):
        graph = jax.jit(function)

        def call(*arrays):
            with jax.enable_x64(dtype == "float64"):
                return [widened(x) for x in jax.tree.leaves(graph(*arrays))]

        return call

    return {name: one(function) for name, function in functions.items()}


def gradient(function: Callable[..., jax.Array], by: Sequence[int] = (0,)) -> Callable[..., tuple[jax.Array, ...]]:
    """The function's gradient by some of its inputs, given those and then that of its output."""
    def backward(*inputs):
        *inputs, dy = inputs

        def of(*moved):
            for i, x in zip(by, moved, strict=True):
                inputs[i] = x
            return function(*inputs)

        y, back = jax.vjp(of, *(inputs[i] for i in by))
        return back(jnp.asarray(dy, y.dtype))

    return backward


@functools.cache
def model_of(dtype: str, model: FreeTable, **changes: Any) -> nnx.Module:
    """The model of the operations' recipe, on T tokens or small images; its weights are shapes alone."""
    with jax.enable_x64(dtype == "float64"):
        return merge(*build(recipe_of(dtype, model, model=changes), CLASSES, shape_of(model)))


def part(dtype: str, model: FreeTable, path: str, *weights: str, whole: bool = False, **changes: Any
         ) -> Callable[..., Any]:
    """A module of that model as a function; see `called`."""
    return called(functools.reduce(getattr, path.split("."), model_of(dtype, model, **changes)), *weights, whole=whole)


def called(module: nnx.Module, *names: str, whole: bool = False) -> Callable[..., Any]:
    """A module as a function of its input and its weights, by their names; `whole`: of the weights to a module."""
    graph, state = nnx.split(module)
    kinds = {".".join(path): type(variable)  # type: ignore[arg-type]  # of modules, whose paths are texts
             for path, variable in nnx.to_flat_state(state)}

    def of(*weights):
        return merge(graph, {name: kinds[name](x) for name, x in zip(names, weights, strict=True)})

    return of if whole else lambda x, *weights: of(*weights)(x)


def takes(policy: jax.typing.DTypeLike, function: Callable[..., Any], places: Sequence[int] = (0,)
          ) -> Callable[..., Any]:
    """The function, given some of its inputs in the compute dtype."""
    return lambda *inputs: function(*(x.astype(policy) if i in places else x for i, x in enumerate(inputs)))


def moving(norm_of: Callable[..., nnx.BatchNorm]) -> Callable[..., list[jax.Array]]:
    """A batch norm as a function of input, scale, bias and running statistics to its output and those after it."""
    def call(x, *weights):
        norm = norm_of(*weights)
        y = norm(x, use_running_average=False)
        return [y, norm.mean[...], norm.var[...]]

    return call


def objective_of(recipe: "Recipe", logits: jax.Array, labels: jax.Array, weights: jax.Array) -> jax.Array:
    """What the trainer minimises, a scalar: the sum over positions of logits (..., classes), by labels and weights
    (...). Alone, so that `gradient` can be taken of it."""
    return loss_sums(recipe, logits, {"labels": labels, "weights": weights})[0]


def updated(dtype: str, name: str) -> Callable[..., list[jax.Array]]:
    """The trainer's update of a kernel and a bias by an optimizer, as `common.operations.judge.optimizer_cases` has
    them."""
    recipe = recipe_of(dtype, MLP, optimizer=trial_of(name))

    def step(kernel, bias, done):
        of = lambda i: {KERNEL: kernel[i], BIAS: bias[i]}  # noqa: E731
        begun, held = make_optimizer(recipe).init(of(0)), fields(recipe)
        before = with_slots(begun, held, lambda slot, path, x: of(2 + moment_of(slot))[path], lambda _: done)
        after = update(recipe, State(done, of(0), {}, before, of(4), None, held), of(1))
        return [group[tensor] for tensor in (KERNEL, BIAS)
                for group in (after.weights, *slots(after.optimizer, held).values(), after.averages)]

    return step


def widened(x: jax.Array) -> np.ndarray:
    """An array as a NumPy array; bfloat16 as float32."""
    return np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)
