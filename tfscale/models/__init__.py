"""The models, as functional graphs of stock Keras layers wherever one exists."""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from twinscale.common.data import input_specs
from twinscale.common.errors import BadInput, one_of
from twinscale.common.families import builder_of, family_of
from twinscale.common.families.adapters import has_products
from twinscale.tfscale.adapters import beside
from twinscale.tfscale.models import convnet, decoder, encoder, mlp, resnet, vit
from twinscale.tfscale.models.layers import Keras, to_train

if TYPE_CHECKING:
    import keras
    import tf_keras

    from twinscale.common.recipe.schema import Recipe


def build_pair(*inputs: Any) -> Any:
    """`pair.build`, imported when it is called: it alone wants TensorFlow, which Keras on JAX does without."""
    from twinscale.tfscale.models.pair import build

    return build(*inputs)


OWN = {build.__module__.rpartition(".")[2]: build for build in (
    convnet.build, decoder.build, encoder.build, mlp.build, resnet.build, vit.build)} | {"pair": build_pair}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float64": "float64"}
LEAVES = {"gamma": "scale", "beta": "bias", "embeddings": "embedding", "moving_mean": "mean", "moving_variance": "var"}


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int], keras: Keras,
          trained: "bool | Callable[..., Any]" = False) -> "keras.Model | tf_keras.Model":
    """A model of the recipe, its weights not yet the canonical first values.

    Args:
      recipe: the recipe; its model, data and train.precision sections are read.
      classes: size of the vocabulary, or number of classes.
      example_shape: (T,) for text, (H, W, C) for images.
      keras: the module to build with, `keras` (3) or `tf_keras` (TF-MOT takes those models only): the same graph.
      trained: whether it is as fast as it can be, and not every place can be read; see `layers.to_train`.
    Returns: a functional model from a dict of inputs (`input_names`) to logits, float32 (float64 in float64).
    """
    if recipe.train.products != "full":
        raise BadInput(f'train.products="{recipe.train.products}": JAX alone computes so: train it with --backend jax, '
                       'or set "full"')
    as_shipped(keras.backend)
    inputs = {name: keras.Input(batch_shape=shape, dtype=dtype, name=name)
              for name, (shape, dtype) in input_specs(recipe, example_shape).items()}
    policy = one_of(POLICIES, recipe.train.precision, "train.precision")
    with to_train(trained):
        logits = builder(recipe)(recipe.model, classes, inputs, policy, keras)
    model = keras.Model(inputs, logits, name=family_of(recipe.model).name)
    if has_products(recipe):  # by Keras' own way they would be tracked, and the model's to compute with
        masters = "float64" if policy == "float64" else "float32"
        object.__setattr__(model, "beside", beside(recipe, canonical_variables(model), masters))
    return model


def builder(recipe: "Recipe") -> Callable[..., Any]:
    """The function that builds a recipe's model here."""
    return builder_of(recipe.model, "keras", OWN)


def as_shipped(backend: ModuleType) -> None:
    """Gives this process the settings that Keras comes with, whatever a user's keras.json says: ours are of them."""
    backend.set_image_data_format("channels_last")
    backend.set_floatx("float32")
    backend.set_epsilon(1e-7)


def canonical_variables(model: "keras.Model") -> "dict[str, keras.Variable]":
    """{canonical name: variable} of a model, in forward order: the names of the layers that hold it, then the leaf;
    then its adapters.

    Raises BadInput where two variables have one name.
    """
    named = {}
    for layer in model.layers:
        if hasattr(layer, "canonical_weights"):  # of a model that is the user's own
            named |= layer.canonical_weights
            continue
        for variable in layer.weights:
            *above, leaf = (getattr(variable, "path", None) or variable.name).split(":")[0].split("/")
            inside = above[above.index(layer.name) + 1:] if layer.name in above else above
            name = ".".join([layer.name, *inside, LEAVES.get(leaf, leaf)])
            if name in named:
                raise BadInput(f"{name}: two variables of the model have this name; name the layers that hold them")
            named[name] = variable
    return named | getattr(model, "beside", {})
