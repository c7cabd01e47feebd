"""A Keras model that somebody else wrote: functional, sequential or a subclass, of Keras 3 or of tf_keras."""

import inspect
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from threading import local
from typing import Any

import keras
import numpy as np

from twinscale.common.errors import BadInput, first_line
from twinscale.common.pairs.draws import nothing_drawn
from twinscale.common.pairs.program import Inputs, Program, chosen, named_outputs
from twinscale.common.pairs.tensors import Tensor
from twinscale.tfscale.program_draws import drawing
from twinscale.tfscale.program_dtypes import computing, first_lower
from twinscale.tfscale.program_sight import seen_of_keras
from twinscale.tfscale.runtimes import GIVEN, as_tensor, nest, on_tensorflow


def open_program(built: Any, inputs: Inputs, output: str | None = None, precision: str = "float32") -> Program:
    """The Program of what a user has built.

    Args:
      built: a keras.Model or another Keras layer, or a model of tf_keras.
      inputs: a batch to call it with: an array, a tuple, or {name: array}.
      output: the name of the one that counts; None: all.
      precision: float64, float32 or bfloat16: what weights and inputs are in, and what layers of float32 compute in.
    Raises BadInput where it is none of these, or breaks.
    """
    is_keras = isinstance(built, keras.layers.Layer)
    if not is_keras and not _is_module(built):
        raise BadInput(f"keras: {type(built).__name__}: a keras.Model or a model of tf_keras is wanted")
    if is_keras and not (on_tensorflow() or GIVEN):  # of a room on JAX: a process of somebody else's has none
        raise BadInput(f"keras: it runs on {keras.backend.backend()}: set KERAS_BACKEND=tensorflow")
    try:
        _given(built, inputs, False)  # builds it
        tensors, start = _tensors_of(built, is_keras)
        asked = built if is_keras or precision == "float32" else _again(built, inputs, precision)
        kept: dict[str, None] = {}
        call, variables = _caller(asked, is_keras, output, precision, kept)
        lower = ""
        if precision != "float32":
            lower = first_lower(lambda tensors, inputs: call(tensors, inputs)[0],
                                (_as(start, precision) if is_keras else {}, _as(inputs, precision)), precision)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"keras: the model breaks on the given inputs: {type(error).__name__}: "
                       f"{first_line(error, 300)}") from error
    wanted = [tensor.path for tensor in tensors if tensor.trained]

    def gradients(tensors, inputs, signs, training=False):
        values = _as(dict(tensors), precision)
        if not on_tensorflow():
            return _of_outputs(lambda moved: call(values | moved, inputs, training)[0],
                               {name: values[name] for name in wanted}, signs)
        import tensorflow as tf

        with nullcontext() if is_keras else _filled(False, variables, values), tf.GradientTape() as tape:
            sources = {name: values[name] if is_keras else variables[name] for name in wanted}
            tape.watch(sources)
            outputs, _ = call(values if is_keras else {}, inputs, training)
            total = tf.add_n([tf.reduce_sum(outputs[name] * tf.cast(signs[name], outputs[name].dtype))
                              for name in signs])
        found = tape.gradient(total, sources)
        return ({name: np.zeros(values[name].shape) if x is None else _plain(tf.convert_to_tensor(x))
                 for name, x in found.items()}, {name: _plain(x) for name, x in outputs.items()})

    def dropouts(inputs, rows):
        draws = nothing_drawn(rows)
        call(start, inputs, True, None, draws)
        return tuple(draws.calls)

    return Program(_kind(built, is_keras), tensors, start, call, gradients, precision, lower, dropouts,
                   tuple(kept))


def _caller(built, is_keras, output, precision, kept):
    """(`Program.call` of a model, {path: its variable}). `kept` as `computing` fills it."""
    variables, layers = _variables(built, is_keras), _layers(built)
    names, inside, own = _names(layers, variables), [], local()

    @contextmanager
    def as_asked(training):
        """In the format, and dropout as `drawing` has it, for as long as anybody is inside: of several replicas each
        waits, inside, for the others, and none may set back what they still need."""
        inside.append(ExitStack() if not inside else inside[0])
        try:
            if len(inside) == 1:
                inside[0].enter_context(computing(layers if is_keras else (), precision, kept))
                inside[0].enter_context(drawing(training, lambda: own.draws))
            yield
        finally:
            stack = inside.pop()
            if not inside:
                stack.close()

    def call(tensors, inputs, training=False, seen=None, draws=None):
        values = _as(dict(tensors), precision)
        own.draws = draws
        with as_asked(training), seen_of_keras(type(built), names, seen), \
                _filled(is_keras, variables, values) as moved:
            made = _given(built, _as(inputs, precision), training)
            statistics = moved() if training else {}
        return chosen(named_outputs(made), output, "keras"), statistics

    return call, variables


def _again(built, inputs, precision):
    """A model of tf_keras made anew from its description, in another format. Raises BadInput where it has none."""
    import tf_keras

    def moved(tree):
        if isinstance(tree, dict):
            return {name: precision if name == "dtype" and x == "float32" else moved(x) for name, x in tree.items()}
        return [moved(x) for x in tree] if isinstance(tree, list | tuple) else tree

    before = tf_keras.backend.floatx()
    tf_keras.backend.set_floatx(precision)
    try:
        model = type(built).from_config(moved(built.get_config()))
        _given(model, _as(inputs, precision), False)
        return model
    except Exception as error:
        raise BadInput(f"keras: a {type(built).__name__} of tf_keras cannot be made anew in {precision}: "
                       f"{type(error).__name__}: {first_line(error, 200)}") from error
    finally:
        tf_keras.backend.set_floatx(before)


def _tensors_of(built, is_keras):
    """(tensors, {path: first value})."""
    variables, trained = _variables(built, is_keras), {id(variable) for variable in built.trainable_variables}
    return (tuple(Tensor(path, tuple(variable.shape), id(variable) in trained) for path, variable in variables.items()),
            {path: np.asarray(variable) for path, variable in variables.items()})


def _as(tree, precision):
    """A tree with its floats in a format, as tensors; what is whole stays as it is."""
    def moved(x):
        x = x if keras.ops.is_tensor(x) else np.asarray(x)
        is_float = "float" in getattr(x.dtype, "name", str(x.dtype))
        return as_tensor(x, precision if is_float else None)

    return nest().map_structure(moved, tree)


def _of_outputs(function, values, signs):
    """`Program.gradients` of a function of {path: tensor} to outputs, by what a runtime of Keras gives."""
    outputs, back = GIVEN["vjp"](function, values)
    found, = back({name: as_tensor(signs[name], x.dtype) if name in signs else keras.ops.zeros_like(x)
                   for name, x in outputs.items()})
    return tuple({name: _plain(x) for name, x in of.items()} for of in (found, outputs))


def _is_module(built):
    """Whether something is a module of TensorFlow's, as models of tf_keras are."""
    if not on_tensorflow():
        return False
    import tensorflow as tf

    return isinstance(built, tf.Module)


def _plain(x):
    x = keras.ops.convert_to_numpy(x)
    return x if x.dtype.kind in "fiub" else np.asarray(x, np.float32)


def _kind(built, is_keras):
    if not is_keras:
        return "a model of tf_keras"
    if isinstance(built, keras.Sequential):
        return "a sequential Keras model"
    return "a functional Keras model" if type(built).__name__ == "Functional" else "a Keras model of its own class"


def _layers(built):
    return built._flatten_layers() if hasattr(built, "_flatten_layers") else []


def _held(layer):
    """A layer's own variables, those of layers within it not."""
    for kind in ("variables", "weights"):
        held = [*getattr(layer, f"_trainable_{kind}", []), *getattr(layer, f"_non_trainable_{kind}", [])]
        if held:
            return held
    return []


def _variables(built, is_keras):
    """{path: variable of floats}. Two layers of one path are told apart by a number, and two of one layer's."""
    owners = {id(variable): id(layer) for layer in _layers(built) for variable in _held(layer)}
    found, modules = {}, {}
    for variable in built.variables if is_keras else built.weights:
        if "float" not in getattr(variable.dtype, "name", str(variable.dtype)):
            continue
        path = variable.path if is_keras else variable.name.partition(":")[0]
        head, _, rest = path.partition("/")
        module, slash, leaf = (rest if head == built.name and rest else path).rpartition("/")
        number, owner = 1, owners.get(id(variable))
        while modules.setdefault(f"{module}_{number}" if number > 1 else module, owner) != owner:
            number += 1
        path = f"{module}_{number}{slash}{leaf}" if number > 1 and module else f"{module}{slash}{leaf}"
        while path in found:
            path += "+"
        found[path] = variable
    return found


def _names(layers, variables):
    """{id of a layer: the module of its own tensors}."""
    paths, names = {id(variable): path for path, variable in variables.items()}, {}
    for layer in layers:
        own = [paths[id(variable)] for variable in _held(layer) if id(variable) in paths]
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
    back. Opens as a function to {path: what the forward pass has moved}."""
    if is_keras:
        with keras.StatelessScope([(variables[path], value) for path, value in tensors.items()]) as scope:
            first = dict(scope.state_mapping)
            yield lambda: {path: now for path in tensors if (now := scope.get_current_value(variables[path]))
                           is not first[id(variables[path])]}
        return
    before = {path: variables[path].numpy() for path in tensors}
    try:
        for path, value in tensors.items():
            variables[path].assign(value)
        first = {path: variables[path].numpy() for path in tensors}
        yield lambda: {path: variables[path].numpy() for path in tensors
                       if not np.array_equal(variables[path], first[path])}
    finally:
        for path, value in before.items():
            variables[path].assign(value)
