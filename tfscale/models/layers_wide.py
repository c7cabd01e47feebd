"""Layers that keep their digits: stock ones that Keras' JAX runtime computes in float32 whatever comes in, or adds up
gradients of in bfloat16, which on TensorFlow are the stock ones; and norms that no keras module has so."""

from typing import Any

from keras import backend, ops

from twinscale.tfscale.bits import Tensor
from twinscale.tfscale.wide import kept_wide, loses, mean


def wide_classes(keras: Any) -> dict[str, type]:
    """{name: class} for one keras module: on TensorFlow the stock classes themselves."""
    names = "Dense", "LayerNormalization", "RMSNormalization", "GlobalAveragePooling2D"
    if keras.backend.backend() == "tensorflow":
        return {name: getattr(keras.layers, name) for name in names if hasattr(keras.layers, name)}

    class Dense(keras.layers.Dense):
        """Keras' own, whose bias is added in float32 or wider and the sum rounded once: a bfloat16 bias' gradient would
        be summed over all rows in bfloat16."""

        def build(self, input_shape):
            super().build(input_shape)
            if self.use_bias:
                kept_wide(self.bias)

        def call(self, inputs, training=None):
            return ops.cast(super().call(inputs, training=training), self.compute_dtype)

    class LayerNormalization(keras.layers.LayerNormalization):
        """Keras' own over the last axis, in two passes in float64."""

        def call(self, inputs):
            if not loses(inputs):
                return super().call(inputs)
            centred = inputs - mean(inputs, -1, keepdims=True)
            factor = ops.rsqrt(mean(ops.square(centred), -1, keepdims=True) + self.epsilon) * self.gamma
            return centred * factor if self.beta is None else centred * factor + self.beta

    class RMSNormalization(keras.layers.RMSNormalization):
        """Keras' own over the last axis."""

        def call(self, x):
            if not loses(x):
                return super().call(x)
            return x * ops.rsqrt(mean(ops.square(x), -1, keepdims=True) + self.epsilon) * self.scale

    class GlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
        """Keras' own over (B, H, W, C)."""

        def call(self, inputs):
            return mean(inputs, (1, 2)) if loses(inputs) else super().call(inputs)

    return {one.__name__: one for one in (Dense, LayerNormalization, RMSNormalization, GlobalAveragePooling2D)}


def norm_classes(keras: Any) -> dict[str, type]:
    """{name: class} of the norms that keras modules have not, or not exactly."""

    class RMSNormalization(keras.layers.Layer):
        """x / rms(x) · scale (Zhang & Sennrich 2019), for keras modules without one; statistics in float32 or wider."""

        def __init__(self, epsilon, **kwargs):
            super().__init__(**kwargs)
            self.epsilon = epsilon

        def build(self, input_shape):
            self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")

        def call(self, x):
            wide = ops.cast(x, self.scale.dtype)
            mean_square = ops.sum(ops.square(wide), -1, keepdims=True) / x.shape[-1]
            return ops.cast(wide * ops.rsqrt(mean_square + self.epsilon) * self.scale, self.compute_dtype)

        def get_config(self):
            return {**super().get_config(), "epsilon": self.epsilon}

    class BatchNormalization(keras.layers.BatchNormalization):
        """Batch norm over all replicas, in two passes that add up one axis after another, backward too.

        Keras' own, synchronized, takes the variance as E[x^2] - E[x]^2, which cancels where the mean is large; and on a
        CPU TensorFlow adds up the values of several axes one by one: a float32 sum of 50,000 loses three digits.
        """

        def call(self, inputs, training=None, mask=None):
            wide = ops.cast(inputs, self.moving_mean.dtype)
            mean, variance = ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)
            if training:
                old = mean, variance
                mean = self.mean(wide)
                variance = self.mean(ops.square(wide - self.spread(mean, wide)))
                self.moving_mean.assign(old[0] * self.momentum + mean * (1 - self.momentum))
                self.moving_variance.assign(old[1] * self.momentum + variance * (1 - self.momentum))
            factor = ops.rsqrt(variance + self.epsilon) * self.gamma
            centred = wide - self.spread(mean, wide)
            return ops.cast(centred * self.spread(factor, wide) + self.spread(self.beta, wide), self.compute_dtype)

        def mean(self, values):
            """Per channel, over all other axes and replicas."""
            for _ in range(len(values.shape) - 1):
                # Not ops.mean, which is float32 on JAX whatever comes in.
                values = ops.sum(values, -2) / ops.cast(ops.shape(values)[-2], values.dtype)
            return over_replicas(values)

        def spread(self, channels, like):
            """A value a channel, to the shape of `like` one axis after another."""
            for axis in range(len(like.shape) - 2, -1, -1):
                channels = ops.repeat(ops.expand_dims(channels, 0), ops.shape(like)[axis], 0)
            return channels

    return {"RMSNormalization": RMSNormalization, "BatchNormalization": BatchNormalization}


def over_replicas(values: Tensor) -> Tensor:
    """Their mean over the replicas of a tf.distribute strategy, which Keras' other runtimes do not have."""
    if backend.backend() != "tensorflow":
        return values
    import tensorflow as tf

    replica = tf.distribute.get_replica_context()

    def reduced(x):
        # From each sum TensorFlow walks back to where it finds variables, through all that the other replicas did, in
        # quadratic time: it stops here.
        return replica.all_reduce(tf.distribute.ReduceOp.MEAN, tf.stop_gradient(x))

    @tf.custom_gradient
    def mean(x):
        return reduced(x), reduced

    return mean(values) if replica else values  # there is none in a symbolic call
