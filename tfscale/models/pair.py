"""A Keras model that the user has built, as a model of a recipe: its tensors are the canonical ones."""

from contextlib import contextmanager, nullcontext
from functools import lru_cache
from unittest.mock import patch

import keras
import tensorflow as tf
from tensorflow.python.framework import config
from tensorflow.python.ops import math_ops

from twinscale.common.errors import BadInput
from twinscale.common.pairs.first import canonical_names, first_tensors
from twinscale.common.pairs.sides import asked, built, check_logits, example
from twinscale.tfscale.programs import open_program


def build(m, classes, inputs, policy, keras):
    """Logits (B, T, V) or (B, classes) of a dict of inputs, by the user's own model."""
    if not hasattr(keras, "ops"):
        raise BadInput("model.family = pair: TF-MOT's compression wraps layers of its own Keras, which a model of the "
                       "user's is not made of")
    if not tf.config.list_logical_devices("GPU"):  # XLA knows no gradient of max pooling where determinism is asked for
        config.disable_op_determinism()
    shape = (*inputs["inputs"].shape[:2 if m.reads == "text" else 1], classes)
    program = opened(m, tuple((name, tuple(x.shape), x.dtype) for name, x in inputs.items()), policy, classes)
    logits = Held(m, program, shape, policy)(inputs)
    return keras.layers.Activation("linear", dtype="float64" if policy == "float64" else "float32", name="logits")(logits)


@lru_cache(2)
def opened(m, specs, policy, classes):
    """The Program of a pair's Keras model, built under a dtype policy and called once. Raises BadInput where it breaks,
    has other tensors than the file of first weights, or gives no logits."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = built(m, "keras")
        batch = example({name: shape for name, shape, _ in specs}, {name: dtype for name, _, dtype in specs}, classes)
        program = open_program(model, asked(m, "keras", batch), m.outputs.keras or None)
    finally:
        keras.config.set_dtype_policy(before)
    made, _ = program.call(program.start, asked(m, "keras", batch))
    check_logits("keras", made, (*batch["inputs"].shape[:2 if m.reads == "text" else 1], classes))
    return program


@contextmanager
def exact_constants():
    """While open, `tf.cast` of a Python float keeps all of its digits: by itself it goes by way of float32, so that the
    GELU of TensorFlow (and by it of Keras) is 5e-9 off in float64."""
    cast = math_ops.cast

    def exact(x, dtype, name=None):
        return tf.constant(x, dtype, name=name) if isinstance(x, float) else cast(x, dtype, name)

    with patch.object(math_ops, "cast", exact), patch.object(tf, "cast", exact):
        yield


class Held(keras.layers.Layer):
    """Holds the canonical tensors and calls the user's model with them."""

    def __init__(self, m, program, shape, policy):
        super().__init__(name="head", dtype=policy)
        self.m, self.program, self.shape = m, program, shape
        self.wide = "float64" if policy == "float64" else "float32"
        tensors, found = first_tensors(m.weights), {tensor.path: tensor for tensor in program.tensors}
        if {tensor.path: tensor.shape for tensor in tensors} != {path: x.shape for path, x in found.items()}:
            odd = [tensor.path for tensor in tensors if getattr(found.get(tensor.path), "shape", None) != tensor.shape]
            odd += [path for path in found if path not in {tensor.path for tensor in tensors}]
            raise BadInput(f"model.weights: {odd[0]} is another tensor than the Keras model has: `twinscale match "
                           "RECIPE` again")
        self.names = canonical_names(tensors)
        self.canonical_weights = {
            self.names[tensor.path]: self.add_weight(shape=tensor.shape, dtype=self.wide, trainable=tensor.trained,
                                                     autocast=False, name=self.names[tensor.path].replace(".", "_"))
            for tensor in tensors}

    def compute_output_spec(self, batch, training=False):
        return keras.KerasTensor(self.shape, self.compute_dtype)

    def call(self, batch, training=False):
        held = {path: self.canonical_weights[name] for path, name in self.names.items()}
        tensors = {path: variable.value for path, variable in held.items()}
        with exact_constants() if self.wide == "float64" else nullcontext():
            made, moved = self.program.call(tensors, asked(self.m, "keras", batch), bool(training))
        for path, value in moved.items():
            if not held[path].trainable:
                held[path].assign(value)
        (logits,) = made.values()
        return keras.ops.cast(logits, self.compute_dtype)
