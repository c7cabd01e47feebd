"""Semantic errors to plant in this backend, to show that a comparison catches them. No recipe can reach them.

Each is one patch point, planted for the life of the process.
"""

import keras
import numpy as np

from tfscale import models, optimizer


def plant(mutant):
    """Plants one of MUTANTS in this process; raises KeyError for any other name."""
    MUTANTS[mutant]()


def adam_epsilon():
    """Epsilon is added beside the folded bias correction, as Keras has it, and not beside the corrected root."""
    optimizer.AdamW.update_step = keras.optimizers.AdamW.update_step


def norm_epsilon():
    """The norms keep Keras' default epsilon, 1e-3."""
    change_model(norm_epsilon=1e-3)


def tanh_gelu():
    """GELU in its tanh form in place of the exact one."""
    change_model(activation="gelu_tanh")


def decayed_biases():
    """Weight decay applies to every tensor."""
    optimizer.is_decayed = lambda name: True


def late_schedule():
    """The learning rate is that of the update before."""
    table = optimizer.learning_rates
    optimizer.learning_rates = lambda recipe: np.concatenate([table(recipe)[:1], table(recipe)[:-1]])


def change_model(**values):
    """Builds every model from a section with some values changed."""
    for family, build in dict(models.BUILDERS).items():
        models.BUILDERS[family] = lambda m, *rest, build=build: build(m.model_copy(update=values), *rest)


MUTANTS = {function.__name__: function for function in
           (adam_epsilon, norm_epsilon, tanh_gelu, decayed_biases, late_schedule)}
