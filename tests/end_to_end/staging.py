"""A stage of a compression at its first state, as the tests of either backend take it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscale.common.compress.recipes import active, stage_recipe
from twinscale.common.compress.rules import chosen, first_tensors, kernels, linear_centroids, nearest, stripped
from twinscale.common.data import input_specs
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.recipe.schema import master_dtype

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
PRUNE = {"kind": "prune", "sparsity": 0.75, "begin": 1, "end": 3, "every": 2, "steps": 4, "learning_rate": 0.01,
         "decay": "constant"}
CLUSTER = {"kind": "cluster", "clusters": 8, "steps": 3, "learning_rate": 0.01}
QUANTIZE = {"kind": "quantize", "calibrate": 0, "steps": 3, "learning_rate": 0.01}
POST = {"kind": "post_training", "calibrate": 1}
DISTIL = {"kind": "distil", "steps": 2}
STEADY = {"decay": "constant"}
TABLES = {"names": ["*.kernel", "*.embedding"]}
SMALL = {"decoder": {"layers": 1}, "convnet": {"channels": [4]}}


def staged_of(recipe_of, small=None):
    """make("mlp", stage, ...): the recipe of the last of the stages, float32 unless it says more.

    Args:
      recipe_of: the fixture. small: {family: what its model has unless a test says more}.
    """
    def make(family, *stages, **sections):
        sections |= {"train": {"precision": "float32"} | sections.get("train", {}),
                     "model": (small or {}).get(family, {}) | sections.get("model", {})}
        recipe = recipe_of(family, compress={"stages": list(stages)}, **sections)
        return stage_recipe(recipe, len(stages) - 1)

    return make


@dataclass
class Staged:
    """A stage's recipe at its first state."""

    opened: Any
    room: Any
    recipe: Any
    state: Any
    start: dict

    def train(self, steps=None, batches=None):
        """The metrics of each of the steps; the state goes on."""
        step, metrics = self.room.make_step(self.recipe, self.state, self.opened.devices), []
        for number in range(self.recipe.train.steps if steps is None else steps):
            batch = batches[number] if batches else self.opened.batch(number)
            self.state, found = step(self.state, number, batch)
            metrics.append({name: np.asarray(x) for name, x in found.items()})
        return metrics

    @property
    def tensors(self):
        """{canonical name: array} of the state, without slots."""
        return {name.removeprefix("weights/"): np.array(x) for name, x in self.room.state_tensors(self.state).items()
                if name.startswith("weights/")}

    @property
    def left(self):
        """{canonical name: array} of the model alone."""
        return stripped(self.recipe, self.room.state_tensors(self.state))

    def evaluate(self, batch):
        evaluate = self.room.make_evaluate(self.recipe, self.state, self.opened.devices)
        return evaluate(self.state, [batch])


def begin(opened, extremes=None):
    """A stage at its first state."""
    recipe, room, start = opened.recipe, opened.room.compressing, start_of(opened, extremes or {})
    state = room.new_state(recipe, opened.dataset, opened.devices)
    tensors = {f"weights/{name}": x for name, x in start.items()}
    return Staged(opened, room, recipe, room.with_tensors(recipe, state, opened.devices, tensors, 0), start)


def start_of(opened, extremes):
    """{canonical name: array} that a stage starts from, of first values that those before have gone over simply."""
    recipe = opened.recipe
    model = active(recipe).teacher_model if active(recipe).kind == "distil" else recipe.model
    tree = parameters(model, opened.dataset.classes, opened.dataset.example_shape)
    left = gone_over(recipe, initial_values(tree, recipe.seed, master_dtype(recipe)))
    found = first_tensors(recipe, opened.dataset, left, extremes)
    return {name.removeprefix("weights/"): x for name, x in found.items()}


def gone_over(recipe, left):
    """A model's tensors, its kernels without the smaller half or of few values where an earlier stage makes them so."""
    for stage in recipe.compress.stages[:-1]:
        for name in chosen(stage.names, kernels(left)):
            x = left[name]
            pruned = x * (np.abs(x) > np.median(np.abs(x)))
            left[name] = pruned if stage.kind == "prune" else nearest(x, linear_centroids(x, stage.clusters))
    return left


def model_inputs(opened, batch):
    """What a model in Keras reads of a batch, as tensors."""
    import tensorflow as tf

    specs = input_specs(opened.recipe, opened.dataset.example_shape)
    return {name: tf.cast((batch | {"key": np.zeros(2, np.uint32)})[name], kind) for name, (_, kind) in specs.items()}
