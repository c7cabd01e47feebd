"""Semantic errors to plant in this backend, to show that a comparison catches them. No recipe can reach them.

Each is one patch point, planted for the life of the process.
"""

import numpy as np
import optax

from jaxscale import models, optimizer


def plant(mutant):
    """Plants one of MUTANTS in this process; raises KeyError for any other name."""
    MUTANTS[mutant]()


def adam_epsilon():
    """Adam keeps Keras' default epsilon, 1e-7."""
    adam = optax.scale_by_adam
    optimizer.optax.scale_by_adam = lambda b1, b2, eps: adam(b1, b2, 1e-7)


def norm_epsilon():
    """The norms keep Flax's default epsilon, 1e-6."""
    change_model(norm_epsilon=1e-6)


def tanh_gelu():
    """GELU in its tanh form, Flax's default, in place of the exact one."""
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

        def changed(recipe, *rest, build=build):
            return build(recipe.model_copy(update={"model": recipe.model.model_copy(update=values)}), *rest)

        models.BUILDERS[family] = changed


MUTANTS = {function.__name__: function for function in
           (adam_epsilon, norm_epsilon, tanh_gelu, decayed_biases, late_schedule)}
