"""Loads exports that TensorFlow or Keras reads, for a process that may know no more than the file."""

import warnings

import numpy as np
import tensorflow as tf

from common import hugging_face

# Our activations by names that no stock one has: those round otherwise, and Keras takes its own where it knows a name.
GELUS = {"gelu": "twinscale_gelu", "gelu_tanh": "twinscale_gelu_tanh", "silu": "twinscale_swiglu"}


def load(name, path, recipe=None, shape=None, threads=None):
    """A function from inputs to logits, NumPy arrays both, of a format's file or directory.

    Args:
      name: the format.
      recipe, shape: of the model, and its data's `classes` and `example_shape`; safetensors alone need them.
      threads: of LiteRT; None: as it likes.
    """
    if name == "savedmodel":
        loaded = tf.saved_model.load(str(path))
        call = loaded.signatures["serving_default"]
        return lambda inputs: call(inputs=tf.constant(inputs, loaded.call.input_signature[0].dtype))["logits"].numpy()
    if name == "keras":
        import keras

        model = keras.saving.load_model(path, custom_objects=custom_objects(), compile=False, safe_mode=True)
        return lambda inputs: np.asarray(model(inputs.astype(model.input.dtype)))
    if name == "safetensors":
        from tfscale.export import logits

        tensors = hugging_face.read(recipe.model, path)
        return lambda inputs: logits(recipe, shape, tensors, inputs)
    return load_litert(path, threads)


def custom_objects():
    """What `keras.saving.load_model` has to know of the layers and activations that are our own."""
    import keras

    from tfscale.models.layers import activation, layers

    names = {ours: ours.removeprefix("twinscale_") for ours in GELUS.values()}
    return vars(layers(keras)) | {ours: activation(name) for ours, name in names.items()}


def load_litert(path, threads):
    """As `load`, of a LiteRT file: so many rows at a time as it takes, the last ones filled up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is going to move to a package of its own
        asked = {"num_threads": threads} if threads else {}
        interpreter = tf.lite.Interpreter(model_content=path.read_bytes(), **asked)
    interpreter.allocate_tensors()
    (given,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    batch = given["shape"][0]

    def call(inputs):
        found = []
        for start in range(0, len(inputs), batch):
            rows = inputs[np.minimum(np.arange(start, start + batch), len(inputs) - 1)]
            interpreter.set_tensor(given["index"], rows.astype(given["dtype"]))
            interpreter.invoke()
            found.append(interpreter.get_tensor(gives["index"]))
        return np.concatenate(found)[:len(inputs)]

    return call
