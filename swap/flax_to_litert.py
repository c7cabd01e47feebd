"""The Flax program as a LiteRT file: what `jaxscale` would give to `jax.jit`, lowered by jax2tf for TensorFlow's
converter.

A process: `python -m swap.flax_to_litert FORMAT MODEL PATH`, of a `common.export.Model`.
"""

from jax.experimental import jax2tf

from common.export import answer
from jaxscale.export import serving
from jaxscale.room import numerics
from tfscale.export import LITERT_BATCH, write_litert


def write(name, recipe, shape, tensors, path):
    """Writes the format `name` to `path`; returns what export.json says of it besides."""
    recipe = recipe.with_values(train={"precision": "float32"}, jax={"scan": False})
    with numerics(recipe):
        function = jax2tf.convert(serving(recipe, shape, tensors), with_gradient=False)
        return {"note": "through jax2tf"} | write_litert(function, shape, name, path, LITERT_BATCH)


if __name__ == "__main__":
    answer(write)
