"""Weight clustering by TF-MOT; the semantics is written at `common.recipe.schema.Cluster`."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow_model_optimization.python.core.clustering.keras import cluster_config, cluster_wrapper

if TYPE_CHECKING:
    import tf_keras


class Clustered(cluster_wrapper.ClusterWeights):
    """TF-MOT's wrapper. That looks for zeros in the weights that it is built with; here they come later, so that the
    mask is a variable, and a centroid that is zero stays zero."""

    def __init__(self, layer: "tf_keras.layers.Layer", clusters: int, masked: bool) -> None:
        super().__init__(layer, clusters, cluster_config.CentroidInitialization.LINEAR, name=f"cluster_{layer.name}",
                         dtype=layer.dtype_policy)  # else it would cast float64 to float32
        self.masked = masked

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.masked:
            self.preserve_sparsity = True
            for name, weight in self.original_clusterable_weights.items():
                self.sparsity_masks[name] = self.add_weight(f"{name}_mask", weight.shape, initializer="ones",
                                                            trainable=False)
                self.zero_idx[name] = 0  # of no use, but asked for

    def _get_zero_idx_mask(self, centroids, zero_cluster):
        return tf.cast(centroids != 0, centroids.dtype)
