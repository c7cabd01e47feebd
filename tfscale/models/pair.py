"""A Keras model that the user has built, as a model of a recipe: its tensors are the canonical ones, but those of b of
two Keras models, which is called with what the match makes of a's."""

import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import keras
from keras.src.backend.common import global_state

from twinscale.common.backends import BACKENDS
from twinscale.common.errors import BadInput
from twinscale.common.families.pair import side_in
from twinscale.common.files.output import tell
from twinscale.common.pairs.draws import draws_of
from twinscale.common.pairs.first import canonical_names, first_tensors
from twinscale.common.pairs.sides import (
    asked,
    built,
    check_draws,
    check_program,
    check_width,
    example,
    logits_of,
    match_in,
    specs_of,
    tensors_in,
    tensors_out,
    used_of,
)
from twinscale.tfscale.absent import NotHere
from twinscale.tfscale.models.layers_wide import over_replicas
from twinscale.tfscale.programs import open_program
from twinscale.tfscale.runtimes import on_tensorflow


def build(m, classes, inputs, policy, keras):
    """Logits (B, T, V), (B, classes) or of arrays (B, ...) of a dict of inputs, by the user's own model."""
    if not hasattr(keras, "ops"):
        raise BadInput("model.family = pair: TF-MOT's compression wraps layers of its own Keras, which a model of the "
                       "user's is not made of")
    pool_on_cpu()
    specs = specs_of({name: (x.shape, x.dtype) for name, x in inputs.items()})
    program = opened(m, specs, policy.removeprefix("mixed_"), classes)
    batch, side = example(specs, classes), side_in(m, "keras")
    check_width(side, program)
    made, _ = program.call(program.start, asked(m, side, batch))
    check_draws(m, side, program, batch)
    shape = (None, *logits_of(made, keras.ops).shape[1:])
    logits, wide = Held(m, program, shape, policy)(inputs), "float64" if policy == "float64" else "float32"
    return keras.layers.Activation("linear", dtype=wide, name="logits")(logits)


def pool_on_cpu() -> None:
    """Asks TensorFlow for no determinism on a CPU: XLA knows no gradient of max pooling where it is asked for."""
    if not on_tensorflow():
        return
    import tensorflow as tf
    from tensorflow.python.framework import config

    if not tf.config.list_logical_devices("GPU"):
        config.disable_op_determinism()


@lru_cache(4)
def opened(m, specs, precision, classes):
    """The Program of a pair's Keras side in a precision, called once. Raises BadInput where it breaks or gives no
    logits."""
    batch, side = example(specs, classes), side_in(m, "keras")
    keras.utils.set_random_seed(0)  # a pair that is matched again has the same first weights
    with own_names():
        model = built(m, side)
        over_all_rows(model)
        try:
            program = open_program(model, asked(m, side, batch), getattr(m.outputs, side) or None, precision)
        except NotHere as error:
            raise NotHere(f"model.{side}: {error}") from None
    check_program(m, side, program, batch, classes)
    if program.kept:
        tell(BACKENDS["keras-jax"].title, "float64 is kept where Keras' JAX runtime computes in float32 by "
             f"itself: {', '.join(program.kept)}")
    return program


@contextmanager
def own_names() -> Iterator[None]:
    """While open, layers that nobody has named are numbered from the first on, as in any process that builds nothing
    else: by their paths a match and first weights know tensors."""
    numbers = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", defaultdict(int))
    if "tf_keras" in sys.modules:
        sys.modules["tf_keras"].backend.reset_uids()
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", numbers)


def over_all_rows(model):
    """Lets the batch norms of a user's model take their statistics from the rows of all replicas, as JAX does of rows
    that lie on several devices. Keras' own `synchronized` takes the variance as E[x^2] - E[x]^2, which cancels, and on
    JAX, where all rows are one array, it is refused."""
    for layer in model._flatten_layers() if hasattr(model, "_flatten_layers") else ():
        if isinstance(layer, keras.layers.BatchNormalization):
            if on_tensorflow():
                layer._moments = partial(moments, layer, layer._moments)
            else:
                layer.synchronized = False


def moments(layer, own, x, mask):
    """(mean, variance) of a batch norm's input over all axes that it adds up and all replicas, each the same number of
    rows; on one device what Keras itself computes."""
    import tensorflow as tf

    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return own(x, mask)
    if mask is not None:
        raise BadInput("model.keras: a batch norm under a mask takes its statistics on one device alone")
    channels = [1 if axis in layer._reduction_axes else size for axis, size in enumerate(x.shape)]

    def mean(values):  # what crosses replicas has no shape of its own
        return keras.ops.reshape(over_replicas(keras.ops.mean(values, layer._reduction_axes, keepdims=True)), channels)

    centre = mean(x)
    return keras.ops.reshape(centre, (-1,)), keras.ops.reshape(mean(keras.ops.square(x - centre)), (-1,))


class Held(keras.layers.Layer):
    """Holds the canonical tensors and calls the user's model with them."""

    def __init__(self, m, program, shape, policy):
        super().__init__(name="head", dtype=policy)
        self.m, self.shape = m, shape
        self.wide = "float64" if policy == "float64" else "float32"
        self.match, tensors = match_in(m, side_in(m, "keras"), program.tensors), first_tensors(m.start)
        self.program = used_of(self.match, program)
        self.names = canonical_names(tensors)
        self.canonical_weights = {
            self.names[tensor.path]: self.add_weight(shape=tensor.shape, dtype=self.wide, trainable=tensor.trained,
                                                     autocast=False, name=self.names[tensor.path].replace(".", "_"))
            for tensor in tensors}

    def compute_output_spec(self, batch, training=False):
        return keras.KerasTensor(self.shape, self.compute_dtype)

    def call(self, batch, training=False):
        held = {path: self.canonical_weights[name] for path, name in self.names.items()}
        values = tensors_in(self.match, {path: variable.value for path, variable in held.items()}, keras.ops)
        made, moved = self.program.call(values, asked(self.m, side_in(self.m, "keras"), batch), bool(training), None,
                                        draws_of(batch, self.match) if training else None)
        moved = tensors_out(self.match, first_tensors(self.m.start), self.program.tensors, moved, keras.ops)
        for path, value in moved.items() if training else ():
            if not held[path].trainable:
                held[path].assign(value)
        return keras.ops.cast(logits_of(made, keras.ops), self.compute_dtype)
