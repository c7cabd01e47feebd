"""In what a program computes: its modules asked for another format, and where it falls below what came in."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
from keras.src import backend
from keras.src.backend.common import dtypes
from keras.src.backend.common.name_scope import current_path

from twinscale.common.pairs.program import LOWER, is_plain
from twinscale.tfscale.runtimes import GIVEN, on_tensorflow

MOVES = {"Identity", "Reshape", "Fill", "ExpandDims", "Squeeze", "Pack", "Unpack", "ConcatV2", "StridedSlice", "Tile",
         "Select", "SelectV2", "BroadcastTo", "Transpose", "ZerosLike", "OnesLike", "Placeholder", "NoOp", "Slice"}


@contextmanager
def computing(modules: Iterable[Any], precision: str, kept: dict[str, None]) -> Any:
    """While open, Keras has the format, and layers of float32 compute in it, their variables too; they are set back.

    Args:
      modules: Keras layers.
      precision: float64, float32 or bfloat16.
      kept: is filled with the paths at which `exact_promotion` keeps float64.
    """
    if precision == "float32":
        yield
        return
    layers = [one for layer in modules for one in (layer, getattr(layer, "_functional", None)) if one is not None]
    policy, floatx = keras.dtype_policies.DTypePolicy(precision), keras.backend.floatx()
    with ExitStack() as stack:
        stack.enter_context(exact_numbers() if on_tensorflow() else exact_promotion(kept))
        for layer in layers:
            if getattr(layer.dtype_policy, "name", "") == "float32":
                stack.enter_context(patch.dict(layer.__dict__, _dtype_policy=policy))
            if layer.__dict__.get("_dtype") == "float32":  # of what a model is given
                stack.enter_context(patch.dict(layer.__dict__, _dtype=precision))
            for one in (*layer._trainable_variables, *layer._non_trainable_variables, *getattr(layer, "_inputs", [])):
                if one.dtype == "float32":
                    stack.enter_context(patch.object(one, "_dtype", precision))
        stack.callback(keras.backend.set_floatx, floatx)
        keras.backend.set_floatx(precision)
        yield


@contextmanager
def exact_numbers() -> Iterator[None]:
    """While open, TensorFlow takes Python's numbers in the format that they are computed in."""
    import tensorflow as tf
    from tensorflow.python.ops import math_ops

    plain = tf.cast

    def exact(x, dtype, name=None):
        """tf.cast, which rounds a Python number to float32 on its way to float64: in a GELU, in an attention."""
        return tf.constant(x, dtype) if isinstance(x, float) else plain(x, dtype, name)

    def leaky(features, alpha=0.2, name=None):
        """tf.nn.leaky_relu, whose slope is float32 in every format."""
        x = tf.convert_to_tensor(features)
        return tf.where(x > 0, x, tf.constant(alpha, x.dtype) * x)

    with patch.object(tf.nn, "leaky_relu", leaky), patch.object(tf, "cast", exact), \
            patch.object(math_ops, "cast", exact):
        yield


@contextmanager
def exact_promotion(kept: dict[str, None] | None = None) -> Iterator[None]:
    """While open, Keras on JAX keeps float64, which its promotion takes for float32 (Keras 3.15:
    keras/src/backend/common/dtypes.py): in norms, means, tanh; and attention's softmax keeps what its scores are of.
    The paths of the layers where it does are put into `kept`."""
    plain, kept = backend.nn.dot_product_attention, {} if kept is None else kept

    class Wide(dict):
        """Keras' table of what becomes of 64 bits."""

        def get(self, dtype, default=None):
            if dtype != "float64":
                return super().get(dtype, default)
            kept[current_path() or "outside of layers"] = None
            return dtype

    def attended(query, key, value, *given, **named):
        if backend.standardize_dtype(query.dtype) != "float64" or named.get("attn_logits_soft_cap") is not None:
            return plain(query, key, value, *given, **named)
        kept[current_path()] = None
        return attention(query, key, value, *given, **named)

    with patch.object(dtypes, "BIT64_TO_BIT32_DTYPE", Wide(dtypes.BIT64_TO_BIT32_DTYPE)), \
            patch.object(backend.nn, "dot_product_attention", attended):
        yield


def attention(query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: float | None = None,
              is_causal: bool = False, **_: Any) -> Any:
    """keras.ops.dot_product_attention, (B, T, N, H), in the dtype of its queries; keys and values may be of fewer
    heads."""
    ops, heads = keras.ops, query.shape[2]
    key, value = (ops.repeat(x, heads // x.shape[2], 2) for x in (key, value))
    scores = ops.einsum("btnh,bsnh->bnts", query, key) * (query.shape[-1]**-0.5 if scale is None else scale)
    if bias is not None:
        scores += ops.cast(bias, scores.dtype)
    if is_causal:
        causal = ops.tril(ops.ones(scores.shape[2:], "bool"))
        mask = causal if mask is None else ops.logical_and(mask, causal)
    if mask is not None:
        lowest = np.finfo(scores.dtype).min * 0.7  # as Keras has it: not infinite, where nothing is to be seen
        scores = ops.where(mask, scores, ops.full_like(scores, lowest))
    return ops.einsum("bnts,bsnh->btnh", ops.softmax(scores), value)


def first_lower(function: Any, given: tuple[Any, ...], precision: str) -> str:
    """Where a program first computes in less than a format, in words; "" where it does not. Masks and other numbers
    that float16 holds too are no computation.

    Args:
      function: of tensors.
      given: what it is called with, of the format.
      precision: what came in.
    """
    if not on_tensorflow():
        return GIVEN["first_lower"](function, given, precision)
    import tensorflow as tf

    traced = tf.function(function, autograph=False).get_concrete_function(*given)
    lower = LOWER[precision]
    for held in traced.captured_inputs:
        if held.dtype.name in lower and not (hasattr(held, "numpy") and is_plain(held.numpy())):
            return f"a constant of its own ({held.dtype.name})"
    graph = traced.graph.as_graph_def()
    nodes = {node.name: node for node in graph.node}
    for node in (*graph.node, *(node for one in graph.library.function for node in one.node_def)):
        if any(value.WhichOneof("value") == "f" and not is_plain(value.f) for value in node.attr.values()):
            return f"{node.name} (a number of float32)"  # such as a slope, which TensorFlow keeps so
        if node.op in MOVES:
            continue
        types = {name: tf.dtypes.as_dtype(value.type) for name, value in node.attr.items()
                 if value.WhichOneof("value") == "type"}
        if node.op == "Cast":  # of a resized image, which is float32 whatever came in, as to one
            source = nodes.get(node.input[0].partition(":")[0])
            is_made = source is not None and source.op not in (*MOVES, "Const", "Cast")
            types = {name: types[name] for name, is_it in (("DstT", True), ("SrcT", is_made)) if is_it} if types[
                "SrcT"].is_floating else {}
        found = next((x.name for x in types.values() if x.name in lower), None)
        if found is None:
            continue
        if node.op == "Const" and is_plain(tf.make_ndarray(node.attr["value"].tensor)):
            continue
        return f"{node.name.rpartition('/')[0] or node.name} ({found})"
    return ""


def is_float32(dtype: Any) -> bool:
    """Whether a module's dtype is float32, as a type or in words."""
    return getattr(dtype, "name", dtype) == "float32"
