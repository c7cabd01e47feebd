"""What a recipe asks of a runtime, beside the runtime that is to train it."""

from twinscale.common.backends import BACKENDS
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

NO_STRATEGY = ("auto", "one")  # of devices.strategy: what asks for none of tf.distribute's over several devices


def check_runtime(recipe: Recipe, backend: str) -> None:
    """Raises BadInput where a recipe asks the Keras program on JAX for what is TensorFlow's, or the Flax program's."""
    if backend != "keras-jax":
        return
    devices, title = recipe.devices, BACKENDS[backend].title
    if devices.strategy not in NO_STRATEGY:
        raise BadInput(f'devices.strategy="{devices.strategy}": tf.distribute\'s strategies are TensorFlow\'s; {title} '
                       'lays its arrays on the mesh: set "auto"')
    if devices.tpu != "local":
        raise BadInput(f'devices.tpu="{devices.tpu}": TensorFlow reaches a TPU by its name; {title} takes the devices '
                       'of its own hosts: set "local"')
    if recipe.train.products != "full":
        raise BadInput(f'train.products="{recipe.train.products}": Flax alone computes so: train it with --backend '
                       'jax, or set "full"')


def unread(recipe: Recipe, backend: str) -> str | None:
    """What a recipe says that the Keras program on JAX does not read, in words, or None."""
    if backend != "keras-jax":
        return None
    title, said = BACKENDS[backend].title, []
    if not recipe.keras.jit_compile:
        said.append(f"keras.jit_compile=false is TensorFlow's, and not read: {title} compiles every step with XLA")
    if recipe.jax.fused:
        said.append(f"jax.fused=true is of Flax' layers, and not read: those of {title} have a product each")
    return "; ".join(said) or None
