"""A JAX program that somebody else wrote: an NNX or a Linen module, a model of the transformers library, or (init,
apply), two pure functions, as of Haiku, Equinox and plain JAX."""

import copy
import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from twinscale.common.errors import BadInput, first_line
from twinscale.common.pairs.draws import nothing_drawn, refused
from twinscale.common.pairs.program import Inputs, Program, chosen, named_outputs
from twinscale.common.pairs.tensors import Tensor
from twinscale.jaxscale.program_draws import drawing
from twinscale.jaxscale.program_dtypes import computing, first_lower, is_float32
from twinscale.jaxscale.program_sight import called_and_seen, seen_of_linen, seen_of_nnx

FUNCTIONS, TREE = "two pure functions", "a callable pytree"
NO_MODULES = FUNCTIONS, TREE  # kinds of programs of which the operations tell what is called
STATISTICS = ("batch_stats",)  # collections of Linen that the forward pass moves
# How modules are told that they do not train, by the name of the parameter.
EVALUATES = {"train": False, "training": False, "is_training": False, "deterministic": True,
             "use_running_average": True}


def open_program(built: Any, inputs: Inputs, output: str | None = None, precision: str = "float32") -> Program:
    """The Program of what a user has built.

    Args:
      built: an nnx.Module; a linen.Module, or (a linen.Module, its variables); a model of the transformers library;
        (init, apply), init(key, *inputs) or init(key) to a tree of arrays and apply(tree, *inputs) to outputs, or with
        a state, init to (tree, state) and apply(tree, state, *inputs) to (outputs, state); or a callable pytree.
      inputs: a batch to call it with: an array, a tuple, or {name: array}.
      output: the name of the one that counts; None: all.
      precision: float64, float32 or bfloat16: what weights and inputs are in, and modules whose dtype can be chosen.
    Raises BadInput where it is none of these, or breaks.
    """
    try:
        with jax.enable_x64(precision == "float64"):
            kind, trees, run = _opened(built, inputs, precision)
            paths, start = _tensors_of(trees)
            called = _of_tensors(kind, trees, run, paths)
            forward, backward = _compiled(called, paths, output, precision)
            traced = forward.trace(_as(start, precision), _as(inputs, precision), False)
            lower = first_lower(traced, precision) if precision != "float32" else ""
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"flax: the program breaks on the given inputs: {type(error).__name__}: "
                       f"{first_line(error, 300)}") from error
    tensors = tuple(Tensor(path, np.shape(start[path]), name == "params") for (name, _), path in paths.items())

    def call(tensors, inputs, training=False, seen=None, draws=None):
        with jax.enable_x64(precision == "float64"):
            given = _as(dict(tensors), precision), _as(inputs, precision)
            if seen is None and draws is None:
                return forward(*given, training)
            made, statistics = called(*given, training, seen, draws)
            return chosen(named_outputs(made), output, "flax"), _flat(statistics, paths)

    trained = [tensor.path for tensor in tensors if tensor.trained]

    def gradients(tensors, inputs, signs, training=False):
        with jax.enable_x64(precision == "float64"):
            given = _as(dict(tensors), precision)
            moved = {path: given.pop(path) for path in trained}
            found, outputs = backward(moved, given, _as(inputs, precision), dict(signs), training)
        return ({name: _plain(x) for name, x in found.items()}, {name: _plain(x) for name, x in outputs.items()})

    def dropouts(inputs, rows):
        draws = nothing_drawn(rows)
        jax.eval_shape(lambda: call(start, inputs, True, None, draws))
        return tuple(draws.calls)

    return Program(kind, tensors, start, call, gradients, precision, lower, dropouts)


def _of_tensors(kind, trees, run, paths):
    """`run` as a function of {path: array}, inputs, training, seen and draws."""
    def called(tensors, inputs, training, seen=None, draws=None):
        if kind in NO_MODULES:
            return _without_modules(lambda tensors, inputs: run(_filled(trees, paths, tensors), inputs, training),
                                    tensors, inputs, seen)
        return run(_filled(trees, paths, tensors), inputs, training, seen, draws)

    return called


def _without_modules(function, tensors, inputs, seen):
    return function(tensors, inputs) if seen is None else called_and_seen(function, tensors, inputs, seen)


def _compiled(called, paths, output, precision):
    """(the forward pass of (tensors, inputs, training), the gradients of (tensors that are trained, others, inputs,
    signs, training)), each compiled once for each shape."""
    def forward(tensors, inputs, training):
        made, statistics = called(tensors, inputs, training)
        return chosen(named_outputs(made), output, "flax"), _flat(statistics, paths)

    def backward(moved, others, inputs, signs, training):
        def total(moved):
            outputs, _ = forward(others | moved, inputs, training)
            return sum((outputs[name] * jnp.asarray(signs[name], outputs[name].dtype)).sum() for name in signs), outputs

        return jax.grad(total, has_aux=True)(moved)

    return jax.jit(forward, static_argnums=2), jax.jit(backward, static_argnums=4)


def _tensors_of(trees):
    """({(tree, key path): path}, {path: first value}) of what is an array of floats; other leaves are left alone."""
    paths, start = {}, {}
    for name, tree in trees.items():
        for keys, x in jax.tree_util.tree_leaves_with_path(tree):
            if isinstance(x, jax.Array | np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating):
                path = "/".join(map(_word, keys)) or name
                paths[name, keys] = path if path not in start else f"{name}/{path}"
                start[paths[name, keys]] = np.asarray(x)
    return paths, start


def _filled(trees, paths, tensors):
    return {name: jax.tree_util.tree_map_with_path(
        lambda keys, x, name=name: tensors[paths[name, keys]] if (name, keys) in paths else x, tree)
        for name, tree in trees.items()}


def _flat(trees, paths):
    return {paths[name, keys]: x for name, tree in trees.items()
            for keys, x in jax.tree_util.tree_leaves_with_path(tree) if (name, keys) in paths}


def _as(tree, precision):
    """A tree with its floats in a format."""
    return jax.tree.map(lambda x: jnp.asarray(x, precision) if jnp.issubdtype(jnp.result_type(x), jnp.floating)
                        else jnp.asarray(x), tree)


def _plain(x):
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else np.asarray(x, np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _opened(built, inputs, precision):
    """(its kind, {"params": tree, "batch_stats": tree}, a function of such trees, inputs, training and seen)."""
    if isinstance(built, nnx.Module):
        return _of_nnx(built, precision)
    if isinstance(built, linen.Module):
        return _of_linen(built, None, inputs, precision)
    if isinstance(built, tuple) and len(built) == 2:
        first, second = built
        if isinstance(first, linen.Module) and isinstance(second, Mapping):
            return _of_linen(first, second, inputs, precision)
        if callable(first) and callable(second):
            return _of_functions(first, second, inputs)
    if hasattr(built, "params") and isinstance(getattr(built, "module", None), linen.Module):
        return _of_wrapped(built, precision)
    if callable(built) and not jax.tree_util.all_leaves([built]):
        return TREE, {"params": built}, lambda trees, inputs, training, *_: (
            _given(trees["params"], inputs, **_modes(type(built).__call__, training)), {})
    raise BadInput(f"flax: {type(built).__name__}: an nnx.Module, a linen.Module, (a linen.Module, its variables), "
                   "a model of the transformers library or (init, apply) is wanted")


def _of_nnx(module, precision):
    graph, params, statistics, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    trees = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(statistics)}

    def run(trees, inputs, training, seen=None, draws=None):
        filled = []
        for state, tree in ((params, trees["params"]), (statistics, trees["batch_stats"])):
            filled.append(jax.tree.map(lambda x: x, state))
            nnx.replace_by_pure_dict(filled[-1], tree)
        merged = nnx.merge(graph, *filled, rest)
        merged.train() if training else merged.eval()
        modules = [one for _, one in nnx.iter_modules(merged)]
        for one in modules:
            # Of dropout alone; attention's own has one mask for all heads, which Keras' has not.
            if hasattr(one, "deterministic") and (draws is None or not isinstance(one, nnx.Dropout)):
                if draws is not None and training and getattr(one, "dropout_rate", 0):
                    raise refused("flax", f"{type(one).__name__}, by its dropout_rate,")
                one.deterministic = True
        with computing(modules, precision), drawing(training, draws), \
                seen_of_nnx(merged, seen, precision != "float32"):
            made = _given(merged, inputs, **_modes(type(merged).__call__, training))
        return made, {"batch_stats": nnx.to_pure_dict(nnx.split(merged, nnx.Param, nnx.BatchStat, ...)[2])}

    return "a Flax NNX module", trees, run


def _of_linen(module, variables, inputs, precision):
    module = _in_format(module, precision)
    modes = _modes(type(module).__call__, False)
    if variables is None:
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        variables = _compiled_once(lambda keys, inputs: _given(module.init, inputs, keys, **modes), keys, inputs)
    known = {name: tree for name, tree in variables.items() if name in ("params", *STATISTICS)}
    rest = {name: tree for name, tree in variables.items() if name not in known}

    def run(trees, inputs, training, seen=None, draws=None):
        more = {"mutable": list(STATISTICS), "rngs": {"dropout": jax.random.key(0)}} if training else {}
        with seen_of_linen(seen), drawing(training, draws):
            made = _given(module.apply, inputs, {**trees, **rest}, **_modes(type(module).__call__, training), **more)
        return made if training else (made, {})

    return "a Flax Linen module", known, run


def _compiled_once(function, *arguments):
    """What a function makes, all of it in one program where JAX can trace it: each operation by itself is compiled for
    each shape."""
    try:
        return jax.jit(function)(*arguments)
    except Exception:  # of the user's own code anything: without a trace it may do
        return function(*arguments)


def _of_wrapped(built, precision):
    """A model of the transformers library; one with running statistics has {"params": ..., "batch_stats": ...}."""
    built = copy.copy(built)
    with suppress(AttributeError):  # a property there, whose value has another name
        setattr(built, "_module" if hasattr(built, "_module") else "module", _in_format(built.module, precision))
    whole = isinstance(built.params, Mapping) and "params" in built.params
    known = inspect.signature(type(built).__call__).parameters

    def run(trees, inputs, training, seen=None, draws=None):
        more = {"dropout_rng": jax.random.key(0)} if training and "dropout_rng" in known else {}
        with seen_of_linen(seen), drawing(training, draws):
            made = _given(built, inputs, params=trees if whole else trees["params"], train=training, **more)
        return made if training and whole and len(trees) > 1 else (made, {})

    trees = dict(built.params) if whole else {"params": built.params}
    return "a model of the transformers library", trees, run


def _of_functions(init, apply, inputs):
    key = jax.random.key(0)
    tree = init(key) if len(_required(init) or ()) == 1 else _given(init, inputs, key, **_modes(init, False))
    names = [name for name in _required(apply) or () if name not in EVALUATES]
    draws = {name: key for name in names[1:3] if name in ("rng", "key")}
    number = len(inputs) if isinstance(inputs, tuple | Mapping) else 1
    stateful = isinstance(tree, tuple) and len(tree) == 2 and (
        names[1:2] == ["state"] or len(names) - len(draws) >= number + 2)
    trees = {"params": tree[0], "state": tree[1]} if stateful else {"params": tree}

    def run(trees, inputs, training, *_):
        made = _given(apply, inputs, *trees.values(), *draws.values(), **_modes(apply, training))
        return (made[0], {"state": made[1]} if training else {}) if stateful else (made, {})

    return FUNCTIONS, trees, run


def _required(function):
    """Names of what must be given in order; None where a signature does not say."""
    try:
        known = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(one.kind == one.VAR_POSITIONAL for one in known):
        return None
    return [one.name for one in known if one.default is one.empty and one.kind != one.VAR_KEYWORD]


def _in_format(module, precision):
    """A Linen module whose own dtype can be chosen, in a format."""
    fixed = precision == "float32" or not is_float32(getattr(module, "dtype", None))
    return module if fixed else module.clone(dtype=jnp.dtype(precision))


def _modes(function, training):
    """What a function's parameters want to hear of training."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value != training for name, value in EVALUATES.items() if name in known}


def _given(function, inputs, *before, **more):
    """A function's result, called with inputs as it takes them: by name, or in order."""
    if isinstance(inputs, Mapping):
        return function(*before, **inputs, **more)
    return function(*before, *(inputs if isinstance(inputs, tuple) else (inputs,)), **more)


def _word(key):
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return str(getattr(key, name))
    return str(key)
