"""Quantisation by TF-MOT; the semantics is written at `common.recipe.schema.Quantize` and `common.compress.rules`.

Where TF-MOT finds zeros and centroids in the weights that a layer is built with, here they are variables: the weights
come later. What is computed of them is TF-MOT's.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.clustering.keras.cluster_config import GradientAggregation
from tensorflow_model_optimization.python.core.clustering.keras.clustering_algorithm import ClusteringAlgorithm
from tensorflow_model_optimization.python.core.quantization.keras import quantizers
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve import (
    cluster_preserve_quantize_registry as cluster_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.prune_preserve import (
    prune_preserve_quantize_registry as prune_preserve,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantizers as conv
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_registry import (
    Default8BitQuantizeConfig,
)
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapperV2

from twinscale.common.compress.rules import quantised_places
from twinscale.tfscale import batch_loss
from twinscale.tfscale.models import build, canonical_variables
from twinscale.tfscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.room import Batch, Tensors
    from twinscale.tfscale.devices import Devices

BITS = {"num_bits": 8, "per_axis": False, "symmetric": False, "narrow_range": False}


def fake_quantise(x: Any, low: Any, high: Any, narrow: bool) -> np.ndarray:
    """Values as 8 bits have them under a range: a NumPy array of x's shape, float32.

    Args:
      x: float32. low, high: (), or (channels,) for one range to each place of x's last axis.
      narrow: whether the lowest of the 256 levels is left out, as of weights.
    """
    several = np.ndim(low) > 0
    quantise = (tf.quantization.fake_quant_with_min_max_vars_per_channel if several else
                tf.quantization.fake_quant_with_min_max_vars)
    return quantise(tf.constant(x), tf.constant(low), tf.constant(high), num_bits=8, narrow_range=narrow).numpy()


def extremes(recipe: "Recipe", dataset: "Dataset", devices: "Devices", tensors: "Tensors", batches: "Iterable[Batch]"
             ) -> dict[str, tuple[float, float]]:
    """{place: (min, max)} with zero in between of what the quantised places of a stage's model compute in evaluation,
    before any quantisation, of weights {canonical name: array} over the batches; each host reads all of them."""
    model, wanted = build(recipe, dataset.classes, dataset.example_shape, keras), quantised_places(recipe.model)
    variables = canonical_variables(model)
    for name, variable in variables.items():
        variable.assign(tensors[name])

    @tf.function(autograph=False)
    def compiled(batch):
        inputs = batch_loss.model_inputs(recipe, batch, tf.zeros(2, tf.uint32))
        found = {"inputs": inputs["inputs"]} if "inputs" in wanted else {}

        def hook(place, x):
            if place in wanted:
                found[place] = x
            return x

        with tapped(model, hook):
            model(inputs, training=False)
        return {name: tf.stack([tf.reduce_min(x), tf.reduce_max(x)]) for name, x in found.items()}

    ranges = dict.fromkeys(wanted, (0.0, 0.0))
    for batch in batches:
        for name, (low, high) in compiled(batch).items():
            ranges[name] = min(ranges[name][0], float(low)), max(ranges[name][1], float(high))
    return ranges


class Together:
    """A quantiser of activations whose ranges move by the extremes of all replicas: TF-MOT's own takes each replica's
    by itself, or their mean, which would depend on how many there are."""

    def __call__(self, inputs, training, weights, **kwargs):
        replica = tf.distribute.get_replica_context()
        if training and replica and replica.num_replicas_in_sync > 1:
            own = tf.stack([tf.reduce_min(inputs), tf.reduce_max(inputs)])
            super().__call__(replica.all_gather(own, 0), True, weights)
            training = False  # the ranges have moved
        return super().__call__(inputs, training, weights)


class MovingAverage(Together, quantizers.MovingAverageQuantizer):
    """Of what a place computes."""


class AllValues(Together, quantizers.AllValuesQuantizer):
    """Of images."""


class KeptZeros(prune_preserve.PrunePreserveDefaultWeightsQuantizer):
    """Of a pruned kernel or table."""

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
        return ranges(self, tensor_shape, name, layer) | zeros(tensor_shape, name, layer)


class KeptClusters(cluster_preserve.ClusterPreserveDefaultWeightsQuantizer):
    """Of a clustered kernel or table, which may have been pruned before. The layer's own variable holds the clustered
    weights; what is trained are variables beside it."""

    def __init__(self, per_axis: bool, clusters: int, masked: bool) -> None:
        super().__init__(8, per_axis, True, True, masked)
        self.clusters = clusters

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer) -> dict[str, Any]:
        centroids = layer.add_weight(f"{name}_centroids", (self.clusters,), trainable=True)
        found = ranges(self, tensor_shape, name, layer) | {
            cluster_preserve.CLUSTER_CENTROIDS: centroids,
            cluster_preserve.ORIGINAL_WEIGHTS: layer.add_weight(f"{name}_original", tensor_shape, trainable=True),
            cluster_preserve.PULLING_INDICES: layer.add_weight(f"{name}_nearest", tensor_shape, tf.int64, "zeros",
                                                               trainable=False),
            # One set of centroids for a kernel, that of a convolution too.
            cluster_preserve.CLUSTERING_IMPL: ClusteringAlgorithm(centroids, GradientAggregation.SUM)}
        return found | (zeros(tensor_shape, name, layer) if self.preserve_sparsity else {})

    def __call__(self, inputs, training, weights, **kwargs):
        centroids = tf.convert_to_tensor(weights[cluster_preserve.CLUSTER_CENTROIDS])
        kept = tf.cast(centroids != 0, centroids.dtype)  # one that is zero stays zero
        return super().__call__(inputs, training, weights | {cluster_preserve.CENTROIDS_MASK: kept})


def ranges(quantizer: Any, shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
    """The variables of a range of weights: one, or one a channel."""
    stock = conv.Default8BitConvWeightsQuantizer if quantizer.per_axis else quantizers.LastValueQuantizer
    return stock.build(quantizer, shape, name, layer)


def zeros(shape: tf.TensorShape, name: str, layer: tf_keras.layers.Layer) -> dict[str, tf.Variable]:
    """The variable of a mask."""
    return {"sparsity_mask": layer.add_weight(f"{name}_mask", shape, initializer="ones", trainable=False)}


def of_weights(per_axis: bool, masked: bool, clusters: int | None) -> quantizers.Quantizer:
    """The quantiser of a kernel or table: with a range for each channel, with zeros to keep, with so many centroids
    to keep."""
    if clusters:
        return KeptClusters(per_axis, clusters, masked)
    if masked:
        return KeptZeros(8, per_axis, True, True)
    return conv.Default8BitConvWeightsQuantizer() if per_axis else quantizers.LastValueQuantizer(8, False, True, True)


def quantised(layer: tf_keras.layers.Layer, weights: Mapping[str, quantizers.Quantizer], place: bool
              ) -> QuantizeWrapperV2:
    """A layer with its weights quantised, by attribute ({} or {attribute: quantiser}), and what it computes where
    `place` holds."""
    config = Default8BitQuantizeConfig(list(weights), [], place)
    config.weight_quantizer, config.activation_quantizer = next(iter(weights.values()), None), MovingAverage(**BITS)
    if type(layer).compute_output_shape is tf_keras.layers.Layer.compute_output_shape:
        layer.compute_output_shape = lambda shape: shape  # tf_keras cannot tell, and no quantiser reads it
    return QuantizeWrapperV2(layer, config)


def quantised_images(x: Any) -> Any:
    """Images (B, H, W, C) quantised."""
    return QuantizeLayer(AllValues(**BITS), name="inputs.quantised")(x)
