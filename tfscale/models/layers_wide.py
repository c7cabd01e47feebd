"""Stock layers that Keras' JAX runtime computes in float32 whatever comes in, as they are written there: classes of
their names, which in float64 keep its digits and otherwise are the stock ones; see `tfscale.wide`."""

from typing import Any

from keras import ops

from twinscale.tfscale.wide import loses, mean


def wide_classes(keras: Any) -> dict[str, type]:
    """{name: class} for one keras module: on TensorFlow the stock classes themselves."""
    names = "LayerNormalization", "RMSNormalization", "GlobalAveragePooling2D"
    if keras.backend.backend() == "tensorflow":
        return {name: getattr(keras.layers, name) for name in names if hasattr(keras.layers, name)}

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

    return {one.__name__: one for one in (LayerNormalization, RMSNormalization, GlobalAveragePooling2D)}
