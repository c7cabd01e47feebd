"""The model of a stage in tf_keras, which TF-MOT takes: the same graph as Keras 3's, its layers wrapped as they are
made."""

import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.clustering.keras.clusterable_layer import ClusterableLayer

from twinscale.common.compress.recipes import active
from twinscale.common.compress.rules import (
    chosen,
    clustered_before,
    extra_tensors,
    kernels,
    per_channel,
    pruned_before,
    quantised_places,
)
from twinscale.common.errors import BadInput, one_of
from twinscale.common.families.parameters import is_trained, parameters
from twinscale.common.families.places import places
from twinscale.tfscale.compress.cluster import Clustered
from twinscale.tfscale.compress.prune import Pruned, pruned
from twinscale.tfscale.compress.quantize import cluster_preserve, of_weights, quantised, quantised_images
from twinscale.tfscale.models import LEAVES, build
from twinscale.tfscale.models.layers import layers

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

TABLES = {"kernel": "kernel", "embedding": "embeddings"}  # canonical leaves, and a layer's attributes


def twin(recipe: "Recipe", dataset: "Dataset | Shape", tensors: Mapping[str, np.ndarray], batch: int | None = None
         ) -> tf_keras.Model:
    """The wrapped tf_keras model of a stage's recipe that does not distil, with the weights of `tensors`, {canonical
    name: array}, in place.

    `batch` is the rows of its inputs, or None for any number; given, the model is one to convert: it computes the same
    but for roundings, of operations that a converter knows. In evaluation it computes what the stage has made.
    """
    model = wrapped_model(recipe, dataset, batch)
    for name, variable in twin_variables(recipe, dataset, model).items():
        variable.assign(tensors[name])
    return model


def wrapped_model(recipe: "Recipe", dataset: "Dataset | Shape", batch: int | None = None) -> tf_keras.Model:
    """The wrapped tf_keras model of a stage's recipe, its weights any."""
    return build(recipe, dataset.classes, dataset.example_shape, Wrapping(recipe, dataset, batch))


class Wrapping:
    """What `tfscale.models.build` takes for a keras module: tf_keras, each layer of which comes wrapped as the stage
    wants it."""

    def __init__(self, recipe: "Recipe", dataset: "Dataset | Shape", batch: int | None = None) -> None:
        self.recipe, self.batch, self.inputs = recipe, batch, {}
        self.tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
        stage = active(recipe)
        self.quantises = stage.kind in ("quantize", "post_training")
        self.places = quantised_places(recipe.model) if self.quantises else {}
        self.tied = places(recipe.model)["head"].holds == "embedding"
        self.pruned, self.clustered = pruned_before(recipe, self.tree), clustered_before(recipe, self.tree)
        own = layers(tf_keras)
        changed = {"TiedEmbedding": tied(own.TiedEmbedding), "BatchNormalization": norm(own.BatchNormalization, batch)}
        self.layers, self.backend = Wrapped(tf_keras.layers, self.wrap), tf_keras.backend
        self.own = Wrapped(types.SimpleNamespace(**vars(own) | changed), self.wrap)

    def Input(self, batch_shape: Sequence[int | None], dtype: str, name: str) -> Any:  # noqa: N802
        if name != "key":  # which has no rows
            batch_shape = (self.batch, *batch_shape[1:])
        x = self.inputs[name] = tf_keras.Input(batch_shape=batch_shape, dtype=dtype, name=name)
        return quantised_images(x) if name in self.places else x

    def Model(self, inputs: Any, outputs: Any, name: str) -> tf_keras.Model:  # noqa: N802
        return tf_keras.Model(self.inputs, outputs, name=name)

    def wrap(self, layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        """A layer as the stage wants it."""
        names = {f"{layer.name}.{leaf}": attribute for leaf, attribute in TABLES.items()}
        name = next((name for name in names if name in self.tree), None)
        stage = active(self.recipe)
        if self.quantises:
            place = layer.name in self.places or self.tied and layer.name == "logits"  # the table's head has no layer
            weights = {names[name]: of_weights(per_channel(self.tree[name].shape), name in self.pruned,
                                               self.clustered.get(name))} if name else {}
            return quantised(layer, weights, place) if weights or place else layer
        if name is None or name not in chosen(stage.names, self.tree):
            return layer
        wrappers = {"prune": lambda: pruned(layer, stage),
                    "cluster": lambda: Clustered(layer, stage.clusters, name in self.pruned)}
        return one_of(wrappers, stage.kind, "stage")()


class Wrapped:
    """A namespace of layer classes, called to make wrapped layers."""

    def __init__(self, namespace: Any, wrap: Callable[[Any], Any]) -> None:
        self.namespace, self.wrap = namespace, wrap

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.wrap(getattr(self.namespace, name)(*args, **kwargs))


def tied(table: type) -> type:
    """The class of a tied table, whose weights TF-MOT is told of."""

    class Table(table, ClusterableLayer):
        def get_prunable_weights(self):
            return [self.embeddings]

        def get_clusterable_weights(self):
            return [("embeddings", self.embeddings)]

    return Table


def norm(stock: type, converted: int | None) -> type:
    """The class of batch norm; one that is `converted` keeps to a value a channel, which a converter folds into the
    convolution before."""

    class Norm(stock):
        def add_weight(self, *args, **kwargs):
            # Replicas have equal running statistics: with tf_keras' choice, to read them would take all hosts.
            return super().add_weight(*args, **kwargs | {"synchronization": tf.VariableSynchronization.AUTO,
                                                         "aggregation": tf.VariableAggregation.NONE})

        def spread(self, channels, like):
            return channels if converted else super().spread(channels, like)

    return Norm


def twin_variables(recipe: "Recipe", dataset: "Dataset | Shape", model: tf_keras.Model) -> dict[str, Any]:
    """{canonical name: variable} of a wrapped model, in the order of the tree and of
    `common.compress.rules.extra_tensors`; a range is two variables in one."""
    found = {}
    for layer in model.layers:
        found |= layer_variables(layer)
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    more = extra_tensors(recipe, dataset)  # type: ignore[arg-type]  # it reads no more than a Shape has
    return {name: found.pop(name) for name in [*tree, *more]}


def layer_variables(layer: tf_keras.layers.Layer) -> dict[str, Any]:
    """{canonical name: variable} of one layer."""
    inner, found = getattr(layer, "layer", layer), {}
    for variable in layer.weights:
        leaf = variable.name.split("/")[-1].split(":")[0]
        if leaf in {*LEAVES, "kernel", "bias", "scale"}:
            named = f"{inner.name}.{LEAVES.get(leaf, leaf)}"
            if named in found:  # a wrapper's names do not tell the layers within a layer apart
                raise BadInput(f"{named}: two variables of the model have this name; make it of layers that have one")
            found[named] = variable
    name: Any = next(iter(kernels(found)), None)  # None of a layer that is not wrapped
    if isinstance(layer, Pruned):
        found[f"{name}_mask"] = layer.pruning_vars[0][1]
    if isinstance(layer, Clustered):
        found[f"{name}_centroids"], = layer.cluster_centroids.values()
        found |= {f"{name}_mask": mask for mask in layer.sparsity_masks.values()}
    for weight, _, own in getattr(layer, "_weight_vars", ()):
        if cluster_preserve.CLUSTER_CENTROIDS in own:
            found |= {name: own[cluster_preserve.ORIGINAL_WEIGHTS], f"{name}_clustered": weight,
                      f"{name}_centroids": own[cluster_preserve.CLUSTER_CENTROIDS]}
        if cluster_preserve.SPARSITY_MASK in own:
            found[f"{name}_mask"] = own[cluster_preserve.SPARSITY_MASK]
        found[f"{name}_range"] = Range(own["min_var"], own["max_var"])
    if output := getattr(layer, "_output_quantizer_vars", None):
        found[f"{'head' if inner.name == 'logits' else inner.name}.range"] = Range(**output)
    if images := getattr(layer, "quantizer_vars", None):
        found["inputs.range"] = Range(**images)
    return found


class Range(tf.Module):
    """The two variables of a range as one: [min, max]."""

    def __init__(self, min_var: tf.Variable, max_var: tf.Variable) -> None:
        super().__init__("range")
        self.low, self.high = min_var, max_var

    @property
    def shape(self) -> tf.TensorShape:
        return tf.TensorShape([2]).concatenate(self.low.shape)

    @property
    def dtype(self) -> tf.DType:
        return self.low.dtype

    def numpy(self) -> np.ndarray:
        return self.__tf_tensor__().numpy()

    def assign(self, value: Any) -> None:
        self.low.assign(value[0])
        self.high.assign(value[1])

    def __tf_tensor__(self, dtype=None, name=None):
        return tf.stack([tf.convert_to_tensor(x) for x in (self.low, self.high)])


class Adopted(keras.Variable):
    """A Keras 3 variable whose value is a variable of tf_keras: what Keras 3's optimizers take."""

    def __init__(self, variable: tf.Variable, name: str) -> None:
        super().__init__(lambda *_, **__: variable, variable.shape, variable.dtype, name=name)

    def _initialize_with_initializer(self, initializer):
        self._initialize(initializer())


def adopted(variables: Mapping[str, Any]) -> dict[str, Any]:
    """{canonical name: variable} with what is trained as Keras 3's."""
    return {name: Adopted(v, name) if is_trained(name) else v for name, v in variables.items()}
