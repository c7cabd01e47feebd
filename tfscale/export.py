"""Writes a model in TensorFlow's formats: SavedModel, `.keras`, LiteRT. `common/export/write.py` has the outline."""

import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import stripped
from twinscale.common.errors import BadInput, one_of
from twinscale.common.export.check import one_document
from twinscale.common.export.write import EIGHT_BITS, LITERT, bare, served
from twinscale.common.families import family_of, reads_text
from twinscale.common.families.places import places
from twinscale.common.files.access import write_bytes
from twinscale.common.recipe.schema import master_dtype
from twinscale.tfscale.batch_loss import model_inputs
from twinscale.tfscale.models import POLICIES, build, builder, canonical_variables
from twinscale.tfscale.models.layers import GELUS

if TYPE_CHECKING:
    import tf_keras

    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

LITERT_BATCH = 1  # of any batch, Dense layers of rank 3 would stay in floating point without a word
PRODUCTS = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL")
OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def logits(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """Logits (NumPy) that the trainer's own program computes in evaluation of rows of one document each.

    Args:
      recipe: with a stage that quantises, the program is that stage's.
      shape: of the data, its `classes` and `example_shape`.
      tensors: {canonical name: array}; of a stage that quantises all that its state has.
      inputs: ids (B, T) or images (B, H, W, C).
    """
    given = model_inputs(recipe, one_document(inputs), tf.zeros(2, tf.uint32))
    if recipe.compress.stages and active(recipe).kind in EIGHT_BITS:
        from twinscale.tfscale.compress.model import twin

        return twin(recipe, shape, bare(tensors))(given, training=False).numpy()
    model = filled(build(recipe, shape.classes, shape.example_shape, keras), tensors)
    return tf.function(lambda: model(given, training=False), jit_compile=recipe.keras.jit_compile)().numpy()


def filled(model: keras.Model, tensors: Mapping[str, np.ndarray]) -> keras.Model:
    """The model with the values of {canonical name: array}."""
    for name, variable in canonical_variables(model).items():
        variable.assign(tensors[name])
    return model


def serving(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray]) -> keras.Model:
    """A Keras model from `inputs` alone to logits."""
    recipe = served(recipe)
    family = family_of(recipe.model)
    x = keras.Input(shape.example_shape, dtype="int32" if family.text else master_dtype(recipe), name="inputs")
    inputs = {"inputs": x}
    if family.text:
        inputs["positions"] = ops.zeros_like(x) + np.arange(shape.example_shape[0], dtype=np.int32)
    policy = POLICIES[recipe.train.precision]
    y = builder(recipe)(recipe.model, shape.classes, inputs, policy, keras)
    model = filled(keras.Model(x, y, name=family.name), tensors)
    for layer in model.layers:
        broadcast(layer)
    return model


def write(name: str, recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], path: Path,
          batch: int = LITERT_BATCH) -> dict[str, Any]:
    """Writes the format `name` to `path`, a LiteRT file for `batch` rows; returns what export.json says of it besides.
    The other arguments are those of `logits`."""
    if name == "litert-int8":
        trained = active(recipe).kind == "quantize"
        note = ("ranges of quantisation-aware training" if trained else
                f"after training, with ranges of {active(recipe).calibrate} training batches")
        return write_litert(quantised(recipe, shape, bare(tensors), batch), shape, name, path, batch) | {"note": note}
    if name in LITERT:
        recipe = recipe.with_values(train={"precision": "float32"})
    model = serving(recipe, shape, tensors)
    if name == "keras":
        return write_keras(model, path)
    if name in LITERT:
        return write_litert(model, shape, name, path, batch) | {"note": ""}
    if name != "savedmodel":
        raise BadInput(f"format {name}: nothing here writes it")
    signature = tf.TensorSpec((None, *shape.example_shape), model.input.dtype, name="inputs")
    module = tf.Module()
    module.model, module.call = model, tf.function(lambda inputs: {"logits": model(inputs)}, [signature],
                                                   autograph=False)
    tf.saved_model.save(module, str(path), {"serving_default": module.call})
    return {"note": "signature serving_default"}


def write_keras(model: keras.Model, path: Path) -> dict[str, str]:
    """Writes a model in Keras' own format, activations by names that no stock one has: those round otherwise."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Activation) and layer.activation.__name__ in GELUS:
            layer.activation.__name__ = GELUS[layer.activation.__name__]
    named = path.with_suffix(".keras")  # which Keras asks for
    model.save(named)
    named.replace(path)
    return {"note": "custom_objects: twinscale.tfscale.predict.custom_objects()"}


def quantised(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray], batch: int
              ) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from `inputs` to logits of a stage that quantises, with TensorFlow's fake quantisation in it, for
    LiteRT to make integers of."""
    from twinscale.tfscale.compress.model import twin

    recipe = served(recipe)
    model = rewritten(twin(recipe, shape, tensors, batch), recipe, tensors)
    if not reads_text(recipe.model):
        return lambda x: model({"inputs": x})
    positions = np.arange(shape.example_shape[0], dtype=np.int32)
    return lambda x: model({"inputs": x, "positions": tf.zeros_like(x) + positions})


def rewritten(model: "tf_keras.Model", recipe: "Recipe", tensors: Mapping[str, np.ndarray]) -> "tf_keras.Model":
    """The same model of a stage that quantises, with what LiteRT would make something else of written otherwise.

    Shares of attention are no softmax, whose output would have 8 bits, and their product with the values integers:
    XNNPACK, by which LiteRT runs on CPUs, then takes the values' zero point for 0 (TensorFlow 2.21). Layer norms add
    up: a mean would have 8 bits, and all values of a row its error. A tied table is two constants, for of one that is
    read in two ways LiteRT makes floating point.
    """
    import tf_keras

    fixed = {name: fake_quantised(x, tensors[f"{name}_range"]).numpy() for name, x in left(recipe, tensors).items()
             if name == "embedding.embedding"}

    def table(ids_or_x, reverse=False):
        x = fixed["embedding.embedding"]
        taken = fake_quantised(x.T if reverse else x, tensors["embedding.embedding_range"])
        return tf.matmul(ids_or_x, taken) if reverse else tf.gather(taken, ids_or_x)

    tied = places(recipe.model)["head"].holds == "embedding"
    for layer in model.layers:
        inner = getattr(layer, "layer", layer)
        if inner.name.endswith(".shares"):
            inner.call = lambda x: tf.exp(tf.nn.log_softmax(x))
        if isinstance(inner, tf_keras.layers.LayerNormalization):
            inner.call = partial(layer_norm, inner)
        if inner.name == "embedding" and tied:
            inner.call = table
    return model


def layer_norm(layer: "tf_keras.layers.LayerNormalization", x: tf.Tensor) -> tf.Tensor:
    """What a LayerNormalization of tf_keras computes."""
    def mean(x):
        return tf.reduce_sum(x, -1, keepdims=True) * (1 / x.shape[-1])

    centred = x - mean(x)
    y = centred * tf.math.rsqrt(mean(centred * centred) + layer.epsilon) * layer.gamma
    return y if layer.beta is None else y + layer.beta


def left(recipe: "Recipe", tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{canonical name: array} of the model alone, of a stage's tensors."""
    return stripped(recipe, {f"weights/{name}": x for name, x in tensors.items()})


def fake_quantised(x: np.ndarray, extremes: Iterable[float]) -> tf.Tensor:
    """A kernel or table in 8 bits of one range."""
    low, high = map(float, extremes)
    return tf.quantization.fake_quant_with_min_max_vars(tf.constant(x), low, high, narrow_range=True)


def broadcast(layer: keras.layers.Layer) -> None:
    """Lets a batch norm broadcast its values, which converters fold into the convolution before; written out to the
    shape of an image, as the trainer's is for its gradients, they would be constants of that size."""
    if hasattr(layer, "spread"):
        layer.spread = lambda channels, like: channels


def write_litert(function: Callable[[tf.Tensor], tf.Tensor], shape: "Shape", name: str, path: Path, batch: int
                 ) -> dict[str, Any]:
    """Writes a function from `inputs` to logits as a LiteRT file of a fixed batch."""
    kind = tf.int32 if len(shape.example_shape) == 1 else tf.float32
    signature = tf.TensorSpec((batch, *shape.example_shape), kind, name="inputs")
    traced = tf.function(lambda inputs: {"logits": function(inputs)}, [signature], autograph=False)
    # LiteRT does not know the variables of Keras 3.
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    if one_of(LITERT, name, "format"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses ranges of the inputs, which stand in the graph
        content = converter.convert()
    write_bytes(path, content)
    return {"batch": batch, "operators": operators(content)}


def operators(content: bytes) -> dict[str, Any]:
    """{"total", "int8", "hybrid", "float", "other", "products", "by_name"} of a LiteRT file: operators that give int8,
    that read int8 and give floating point, that know floating point alone, and the rest (ids, shapes, quantisation
    itself). The products among them, {"int8", "hybrid", "float"}, are what the time goes into; by_name counts each
    name."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    kinds, products, names = Counter(), Counter(), Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
            name = code.customCode.decode() if name == "CUSTOM" else name
            kind = kind_of(name, *([graph.tensors[i].type for i in side if i >= 0]
                                   for side in (operator.inputs, operator.outputs)))
            kinds[kind] += 1
            names[name] += 1
            products[kind] += name in PRODUCTS
    found = {kind: kinds[kind] for kind in ("int8", "hybrid", "float", "other")}
    return {"total": sum(found.values()), **found,
            "products": {kind: products[kind] for kind in ("int8", "hybrid", "float")}, "by_name": dict(names)}


def kind_of(name: str, reads: Collection[int], gives: Collection[int]) -> str:
    """What an operator computes with, by the types of its tensors."""
    if name in ("QUANTIZE", "DEQUANTIZE"):
        return "other"
    if schema.TensorType.INT8 in gives:
        return "int8"
    if schema.TensorType.FLOAT32 not in gives:
        return "other"
    return "hybrid" if schema.TensorType.INT8 in reads else "float"
