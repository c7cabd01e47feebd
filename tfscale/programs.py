"""A Keras model that somebody else wrote: functional, sequential or a subclass, of Keras 3 or of tf_keras."""

import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf

from twinscale.common.errors import BadInput, first_line
from twinscale.common.pairs.program import Inputs, Program, Seen, chosen, named_outputs
from twinscale.common.pairs.tensors import Tensor


def open_program(built: Any, inputs: Inputs, output: str | None = None) -> Program:
    """The Program of what a user has built.

    Args:
      built: a keras.Model or another Keras layer, or a model of tf_keras.
      inputs: a batch to call it with: an array, a tuple, or {name: array}.
      output: the name of the one that counts; None: all.
    Raises BadInput where it is none of these, or breaks.
    """
    is_keras = isinstance(built, keras.layers.Layer)
    if not is_keras and not isinstance(built, tf.Module):
        raise BadInput(f"keras: {type(built).__name__}: a keras.Model or a model of tf_keras is wanted")
    if is_keras and keras.backend.backend() != "tensorflow":
        raise BadInput(f"keras: it runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow")
    try:
        _given(built, inputs, False)  # builds it
    except Exception as error:
        raise BadInput(f"keras: the model breaks on the given inputs: {type(error).__name__}: "
                       f"{first_line(error, 300)}") from error
    variables = _variables(built, is_keras)
    trained = {id(variable) for variable in built.trainable_variables}
    tensors = tuple(Tensor(path, tuple(variable.shape), id(variable) in trained)
                    for path, variable in variables.items())
    names = _names(built, variables)

    def call(tensors, inputs, training=False, seen=None):
        with _seen_of_keras(type(built), names, seen), _filled(is_keras, variables, tensors) as moved:
            made = _given(built, inputs, training)
            statistics = {tensor.path: moved(tensor.path) for tensor in known if not tensor.trained} if training else {}
        return chosen(named_outputs(made), output, "keras"), statistics

    known = tensors

    def gradients(tensors, inputs, signs):
        wanted = [tensor.path for tensor in known if tensor.trained]
        values = {name: tf.convert_to_tensor(x) for name, x in tensors.items()} if is_keras else {}
        with _filled(is_keras, variables, {} if is_keras else tensors), tf.GradientTape() as tape:
            sources = [values[name] if is_keras else variables[name] for name in wanted]
            tape.watch(sources)
            outputs, _ = call(values, inputs)
            total = tf.add_n([tf.reduce_sum(outputs[name] * tf.cast(signs[name], outputs[name].dtype))
                              for name in signs])
        found = tape.gradient(total, sources)
        return {name: np.zeros(variables[name].shape) if x is None else tf.convert_to_tensor(x).numpy()
                for name, x in zip(wanted, found, strict=True)}, {name: x.numpy() for name, x in outputs.items()}

    return Program(_kind(built, is_keras), tensors, {path: np.asarray(v) for path, v in variables.items()}, call,
                   gradients)


def _kind(built, is_keras):
    if not is_keras:
        return "a model of tf_keras"
    if isinstance(built, keras.Sequential):
        return "a sequential Keras model"
    return "a functional Keras model" if type(built).__name__ == "Functional" else "a Keras model of its own class"


def _variables(built, is_keras):
    """{path: variable}, without what draws random bits; a path that two have is told apart by its place."""
    found = {}
    for variable in built.variables if is_keras else built.weights:
        path = variable.path if is_keras else variable.name.partition(":")[0]
        if "seed_generator" in path:
            continue
        head, _, rest = path.partition("/")
        path = rest if head == built.name and rest else path
        while path in found:
            path += "+"
        found[path] = variable
    return found


def _names(built, variables):
    """{id of a layer: the module of its own tensors}."""
    paths = {id(variable): path for path, variable in variables.items()}
    names = {}
    for layer in built._flatten_layers() if hasattr(built, "_flatten_layers") else []:
        held = getattr(layer, "_trainable_variables", []) or getattr(layer, "_trainable_weights", [])
        own = [paths[id(variable)] for variable in held if id(variable) in paths]
        if own:
            names[id(layer)] = own[0].rpartition("/")[0]
    return names


def _given(model, inputs, training):
    """A model's result, called with inputs as it takes them."""
    known = inspect.signature(model.call).parameters
    more = {"training": training} if "training" in known or isinstance(model, keras.Model) else {}
    if isinstance(inputs, Mapping):
        if len(inputs) > 1 and all(name in known for name in inputs):
            return model(**inputs, **more)
        return model(dict(inputs) if len(inputs) > 1 or _takes_names(model) else next(iter(inputs.values())), **more)
    if isinstance(inputs, tuple):
        positional = [one for one in known.values()
                      if one.kind == one.POSITIONAL_OR_KEYWORD and one.name not in ("training", "mask")]
        return model(*inputs, **more) if len(positional) >= len(inputs) > 1 else model(
            list(inputs) if len(inputs) > 1 else inputs[0], **more)
    return model(inputs, **more)


def _takes_names(model):
    return isinstance(getattr(model, "_inputs_struct", None), dict)


@contextmanager
def _filled(is_keras, variables, tensors):
    """While open, variables have other values: in Keras for these calls alone; in tf_keras they are set, and set
    back."""
    if is_keras:
        with keras.StatelessScope([(variables[path], value) for path, value in tensors.items()]) as scope:
            yield lambda path: scope.get_current_value(variables[path])
        return
    before = {path: variables[path].numpy() for path in tensors}
    try:
        for path, value in tensors.items():
            variables[path].assign(value)
        yield lambda path: variables[path].numpy()
    finally:
        for path, value in before.items():
            variables[path].assign(value)


@contextmanager
def _seen_of_keras(kind, names, seen):
    if seen is None:
        yield
        return
    base = next(one for one in kind.__mro__ if one.__name__ == "Layer")
    function = base.__call__

    def __call__(self, *given, **named):
        made = function(self, *given, **named)
        if id(self) in names:
            seen.append(Seen(names[id(self)], _floats((given, named)), _floats(made)))
        return made

    with patch.object(base, "__call__", __call__):
        yield


def _floats(tree):
    return tuple(x for x in tf.nest.flatten(tree)
                 if hasattr(x, "dtype") and "float" in str(getattr(x.dtype, "name", x.dtype)))
