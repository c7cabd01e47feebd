"""A JAX program that somebody else wrote: an NNX or a Linen module, a model of the transformers library, or (init,
apply), two pure functions, as of Haiku, Equinox and plain JAX."""

import inspect
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from twinscale.common.errors import BadInput, first_line
from twinscale.common.pairs.program import Inputs, Program, Seen, chosen, named_outputs
from twinscale.common.pairs.tensors import Tensor

STATISTICS = ("batch_stats",)  # collections of Linen that the forward pass moves
# How modules are told that they do not train, by the name of the parameter.
EVALUATES = {"train": False, "training": False, "is_training": False, "deterministic": True,
             "use_running_average": True}


def open_program(built: Any, inputs: Inputs, output: str | None = None) -> Program:
    """The Program of what a user has built.

    Args:
      built: an nnx.Module; a linen.Module, or (a linen.Module, its variables); a model of the transformers library; or
        (init, apply), init(key, *inputs) to a tree of arrays and apply(tree, *inputs) to outputs.
      inputs: a batch to call it with: an array, a tuple, or {name: array}.
      output: the name of the one that counts; None: all.
    Raises BadInput where it is none of these, or breaks.
    """
    try:
        kind, trees, run = _opened(built, inputs)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"flax: the program breaks on the given inputs: {type(error).__name__}: "
                       f"{first_line(error, 300)}") from error
    paths = {}  # {(tree, key path): path}
    for name, tree in trees.items():
        for keys, _ in jax.tree_util.tree_leaves_with_path(tree):
            path = "/".join(map(_word, keys))
            paths[name, keys] = path if path not in paths.values() else f"{name}/{path}"
    start = {paths[name, keys]: np.asarray(x) for name, tree in trees.items()
             for keys, x in jax.tree_util.tree_leaves_with_path(tree)}
    tensors = tuple(Tensor(paths[name, keys], np.shape(x), name == "params") for name, tree in trees.items()
                    for keys, x in jax.tree_util.tree_leaves_with_path(tree))

    def call(tensors, inputs, training=False, seen=None):
        filled = {name: jax.tree_util.tree_map_with_path(
            lambda keys, x, name=name: jnp.asarray(tensors[paths[name, keys]]), tree) for name, tree in trees.items()}
        made, statistics = run(filled, inputs, training, seen)
        moved = {paths[name, keys]: x for name, tree in statistics.items()
                 for keys, x in jax.tree_util.tree_leaves_with_path(tree)}
        return chosen(named_outputs(made), output, "flax"), moved

    trained = [tensor.path for tensor in tensors if tensor.trained]

    def gradients(tensors, inputs, signs):
        def total(moved):
            outputs, _ = call(tensors | moved, inputs)
            return sum((outputs[name] * signs[name]).sum() for name in signs), outputs

        found, outputs = jax.jit(jax.grad(total, has_aux=True))({name: jnp.asarray(tensors[name]) for name in trained})
        return {name: np.asarray(x) for name, x in found.items()}, {name: np.asarray(x) for name, x in outputs.items()}

    return Program(kind, tensors, start, call, gradients)


def _opened(built, inputs):
    """(its kind, {"params": tree, "batch_stats": tree}, a function of such trees, inputs, training and seen)."""
    if isinstance(built, nnx.Module):
        return _of_nnx(built)
    if isinstance(built, linen.Module):
        return _of_linen(built, None, inputs)
    if isinstance(built, tuple) and len(built) == 2:
        first, second = built
        if isinstance(first, linen.Module) and isinstance(second, Mapping):
            return _of_linen(first, second, inputs)
        if callable(first) and callable(second):
            tree = _given(first, inputs, jax.random.key(0))
            return ("two pure functions", {"params": tree},
                    lambda trees, inputs, training, seen: (_given(second, inputs, trees["params"]), {}))
    if hasattr(built, "params") and isinstance(getattr(built, "module", None), linen.Module):
        def run(trees, inputs, training, seen):
            with _seen_of_linen(seen):
                return _given(built, inputs, params=trees["params"], train=False), {}

        return "a model of the transformers library", {"params": built.params}, run
    raise BadInput(f"flax: {type(built).__name__}: an nnx.Module, a linen.Module, (a linen.Module, its variables), "
                   "a model of the transformers library or (init, apply) is wanted")


def _of_nnx(module):
    graph, params, statistics, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    trees = {"params": nnx.to_pure_dict(params), "batch_stats": nnx.to_pure_dict(statistics)}

    def run(trees, inputs, training, seen):
        for state, tree in ((params, trees["params"]), (statistics, trees["batch_stats"])):
            nnx.replace_by_pure_dict(state, tree)
        merged = nnx.merge(graph, params, statistics, rest)
        merged.train() if training else merged.eval()
        with _seen_of_nnx(merged, seen):
            made = _given(merged, inputs, **_modes(type(merged).__call__, training))
        return made, {"batch_stats": nnx.to_pure_dict(nnx.split(merged, nnx.Param, nnx.BatchStat, ...)[2])}

    return "a Flax NNX module", trees, run


def _of_linen(module, variables, inputs):
    modes = _modes(type(module).__call__, False)
    if variables is None:
        variables = _given(module.init, inputs, {"params": jax.random.key(0), "dropout": jax.random.key(1)}, **modes)
    known = {name: tree for name, tree in variables.items() if name in ("params", *STATISTICS)}
    rest = {name: tree for name, tree in variables.items() if name not in known}

    def run(trees, inputs, training, seen):
        with _seen_of_linen(seen):
            made = _given(module.apply, inputs, {**trees, **rest}, **_modes(type(module).__call__, training),
                          mutable=list(STATISTICS) if training else False)
        return made if training else (made, {})

    return "a Flax Linen module", known, run


def _modes(function, training):
    """What a function's parameters want to hear of training."""
    known = inspect.signature(function).parameters
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


# ---- what modules are given and make

def _floats(tree):
    return tuple(x for x in jax.tree.leaves(tree) if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating))


@contextmanager
def _seen_of_linen(seen):
    if seen is None:
        yield
        return

    def intercept(function, given, named, context):
        made = function(*given, **named)
        if context.method_name == "__call__" and "params" in context.module.scope.root._variables:
            seen.append(Seen("/".join(context.module.path), _floats((given, named)), _floats(made)))
        return made

    with linen.intercept_methods(intercept):
        yield


@contextmanager
def _seen_of_nnx(module, seen):
    if seen is None:
        yield
        return
    names = {id(one): "/".join(map(str, path)) for path, one in nnx.iter_modules(module)}

    def watched(function):
        def __call__(self, *given, **named):
            made = function(self, *given, **named)
            if id(self) in names:
                seen.append(Seen(names[id(self)], _floats((given, named)), _floats(made)))
            return made

        return __call__

    with ExitStack() as stack:
        for kind in {type(one) for _, one in nnx.iter_modules(module) if "__call__" in dir(type(one))}:
            stack.enter_context(patch.object(kind, "__call__", watched(kind.__call__)))
        yield
