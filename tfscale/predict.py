"""Loads exports that TensorFlow or Keras reads, for a process that may know no more than the file."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from twinscale.common.errors import one_of
from twinscale.common.export import hugging_face
from twinscale.common.export.write import LITERT

if TYPE_CHECKING:
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

# What a SavedModel may call, by TensorFlow's names: arithmetic, shapes, and its own variables. What our exports have
# and what networks are made of; files, prints, Python, datasets, tables and operations of plug-ins are not among it.
ARITHMETIC = set("""
Abs Acos Add AddN AddV2 All Any ArgMax ArgMin AvgPool BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd BiasAddV1
BroadcastArgs BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Conv3D Cos Cumsum DepthToSpace
DepthwiseConv2dNative DivNoNan Einsum Elu Equal Erf Erfc Exp ExpandDims Expm1 FakeQuantWithMinMaxArgs
FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2
FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If IsFinite IsInf IsNan L2Loss
LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart MatrixDiagV3 Max
MaxPool MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2
PartitionedCall Placeholder PlaceholderWithDefault Pow Prod Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6
Reshape ResizeBilinear ResizeNearestNeighbor ResourceGather ReverseV2 Rint Round Rsqrt Select SelectV2 Selu Shape
ShapeN Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split SplitV Sqrt Square SquaredDifference
Squeeze StatefulPartitionedCall StatelessIf StatelessWhile StopGradient StridedSlice Sub Sum Tan Tanh
TensorScatterUpdate Tile TopKV2 Transpose Unpack VarHandleOp VarIsInitializedOp Where While Xdivy Xlogy ZerosLike
""".split())  # noqa: SIM905


def strange(name: str, path: Path) -> list[str]:
    """The operations of a format's file or directory that could do more than compute, sorted; it is not loaded for
    that. Of `.keras` Keras itself refuses what could, and safetensors hold no operations."""
    looks = dict.fromkeys(LITERT, strange_litert) | {"savedmodel": strange_saved} | dict.fromkeys(
        ("keras", "safetensors"), lambda path: [])
    return one_of(looks, name, "format")(path)


def strange_saved(path: Path) -> list[str]:
    """As `strange`, of a SavedModel: of all functions that can be called once it is loaded, and those that they call.
    What writes and reads its variables is called by no other, and TensorFlow reads them without it."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel()
    found = {file.name for file in path.glob("saved_model.*")} - {"saved_model.pb"}  # which would be read in its place
    saved.ParseFromString((path / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        functions = {function.signature.name: function for function in graph.graph_def.library.function}
        waiting, seen = list(graph.object_graph_def.concrete_functions), set()
        if not graph.object_graph_def.nodes:  # one of TensorFlow 1, which runs its graph to be loaded
            found, waiting = found | {node.op for node in graph.graph_def.node}, list(functions)
        while waiting:
            called = waiting.pop()
            if called in seen or called not in functions:
                continue
            seen.add(called)
            for node in functions[called].node_def:
                found.add(node.op)
                for value in node.attr.values():
                    waiting += [value.func.name, *(each.name for each in value.list.func)]
                waiting.append(node.op)  # a call may be written so
        found -= seen
    return sorted(found - ARITHMETIC)


def strange_litert(path: Path) -> list[str]:
    """As `strange`, of a LiteRT file: those that it does not know itself, TensorFlow's own among them."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    return sorted({(code.customCode or b"?").decode(errors="replace") for code in model.operatorCodes
                   if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.CUSTOM})


def load(name: str, path: Path, recipe: "Recipe | None" = None, shape: "Shape | None" = None, threads: int | None = None
         ) -> Callable[[np.ndarray], np.ndarray]:
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
        from twinscale.tfscale.export import logits

        # Whoever asks for safetensors gives both.
        tensors = hugging_face.read(recipe.model, path)  # type: ignore[union-attr]
        return lambda inputs: logits(recipe, shape, tensors, inputs)  # type: ignore[arg-type]
    return one_of(dict.fromkeys(LITERT, load_litert), name, "format")(path, threads)


def custom_objects() -> dict[str, Any]:
    """What `keras.saving.load_model` has to know of the layers and activations that are our own."""
    import keras

    from twinscale.tfscale.models.layers import GELUS, activation, layers

    names = {ours: ours.removeprefix("twinscale_") for ours in GELUS.values()}
    return vars(layers(keras)) | {ours: activation(name) for ours, name in names.items()}


def load_litert(path: Path, threads: int | None) -> Callable[[np.ndarray], np.ndarray]:
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
