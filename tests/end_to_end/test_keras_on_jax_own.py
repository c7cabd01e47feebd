"""What a user has written for Keras, on JAX: optimizers, families, objectives and metrics, as elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from twinscale.common.recipe.file import given

pytestmark = pytest.mark.usefixtures("trusting")

ROOMS = {"keras": "twinscale.tfscale", "keras-jax": "twinscale.kerasjax", "jax": "twinscale.jaxscale"}
PLUGINS = Path(__file__).parents[2] / "docs" / "plugins"
PAIR = PLUGINS.with_name("pair")
EPS = 2.0**-52
OPTIMIZERS = """
import keras
import optax

def adam():
    return keras.optimizers.Adam(1e-3, amsgrad=True)

def rmsprop():
    return keras.optimizers.RMSprop(1e-3, centered=True, momentum=0.5)

def ftrl():
    return keras.optimizers.Ftrl(1e-2)

def nadam():
    return keras.optimizers.Nadam(1e-3)

def adadelta():
    return keras.optimizers.Adadelta(1e-2)

def adafactor():
    return keras.optimizers.Adafactor(1e-3, epsilon_1=1e-16)  # of 1e-30 squares underflow

def sgd():
    return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 5, alpha=0.1), momentum=0.9, clipnorm=0.3)

class Own(keras.optimizers.Optimizer):
    def __init__(self):
        super().__init__(learning_rate=0.1)

    def build(self, variables):
        super().build(variables)
        self.seen = self.add_variable((), name="seen", dtype="int32")
        self.speeds = [self.add_variable_from_reference(v, name="speed") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        speed = self.speeds[self._get_variable_index(variable)]
        self.assign(speed, 0.5 * speed + gradient)
        self.assign(self.seen, self.seen + 1)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * speed)

def own():
    return Own()

def other():
    return optax.sgd(0.1)
"""
MODELS = {"one_layer": '[data]\nsource = "stripes.py:STRIPES"\nside = 6\n[model]\nfamily = "one_layer.py:ONE_LAYER"\n',
          "bag": '[data]\nsource = "CORPUS"\nsequence = 16\nheld_out = 0.2\n[model]\nfamily = "bag.py:BAG"\n'}


def far(ours, theirs):
    """The largest difference of tensors of the same names, relative to each one's largest value."""
    return max(float(np.abs(np.float64(ours[name]) - np.float64(x)).max() / max(np.abs(np.float64(x)).max(), 1e-9))
               for name, x in theirs.items())


# Keras on TensorFlow has Nadam's 0.96 as a float32.
@pytest.mark.parametrize("optimizer, bound", [
    ("adam", 64 * EPS), ("sgd", 64 * EPS), ("own", 64 * EPS), ("adafactor", 512 * EPS),
    *(pytest.param(name, bound, marks=pytest.mark.slow) for name, bound in (
        ("rmsprop", 64 * EPS), ("ftrl", 64 * EPS), ("adadelta", 64 * EPS), ("nadam", 1e-7)))])
def test_an_optimizer_of_their_own_moves_weights_as_on_tensorflow(left, tmp_path, optimizer, bound):
    """And so does what it keeps, of whatever shape, under one name on both."""
    (tmp_path / "mine.py").write_text(OPTIMIZERS)
    (tmp_path / "mine.toml").write_text(
        'name = "own"\n[data]\nsource = "digits"\nheld_out = 0.2\n[model]\nfamily = "mlp"\nhidden = [24, 16]\n'
        f'[optimizer]\nkeras = "mine.py:{optimizer}"\njax = "mine.py:other"\n'
        '[train]\nglobal_batch = 8\nsteps = 4\nprecision = "float64"\n[keras]\njit_compile = false\n')
    ours, theirs = left(given(tmp_path / "mine.toml"), "keras-jax", "keras", call="optimizer_steps", updates=3).values()
    assert ours.keys() == theirs.keys() and len(ours) > 20
    assert any("/keras.rest/" in name for name in ours) == (optimizer != "sgd")  # a rate, or more
    assert far(ours, theirs) < bound


def test_their_loss_and_ported_optimizer_are_those_of_jax(left, tmp_path):
    for file in PAIR.glob("training_*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "mine.toml").write_text(
        'name = "own"\n[data]\nsource = "digits"\nheld_out = 0.2\n[model]\nfamily = "mlp"\nhidden = [24, 16]\n'
        '[optimizer]\nkeras = "training_keras.py:mended"\njax = "training_jax.py:optimizer"\n'
        '[objective]\nkeras = "training_keras.py:loss"\njax = "training_jax.py:loss"\n'
        '[train]\nglobal_batch = 8\nsteps = 4\nprecision = "float64"\n')
    recipe = given(tmp_path / "mine.toml")
    ours, theirs = left(recipe, "keras-jax", "jax").values()
    assert ours.keys() == theirs.keys() and far(ours, theirs) < 64 * 64 * EPS
    ours, theirs = left(recipe, "keras-jax", "jax", call="optimizer_steps", updates=3).values()
    assert far(*({name: x for name, x in of.items() if "/weights/" in name} for of in (ours, theirs))) < 64 * EPS


@pytest.mark.parametrize("family, more", [
    ("bag", ""), ("one_layer", 'metrics = ["theirs.py:BRIER"]\n[objective]\nname = "theirs.py:FOCAL"\n'
                               '[optimizer]\nname = "theirs.py:RMSPROP"\n[schedule]\n'
                               'kind = "theirs.py:INVERSE_ROOT"\n')])
def test_a_family_of_their_own_with_its_objective_and_optimizer_is_flax_s(left, corpus, tmp_path, family, more):
    for file in PLUGINS.glob("*.py"):
        shutil.copy(file, tmp_path)
    text = MODELS[family].replace("CORPUS", corpus)
    (tmp_path / "recipe.toml").write_text(f'name = "outside"\n{text}hidden = 12\n[train]\nglobal_batch = 8\n'
                                          f'steps = 4\nprecision = "float64"\n{more}')
    recipe = given(tmp_path / "recipe.toml")
    ours, theirs = left(recipe, "keras-jax", "jax").values()
    assert ours.keys() == theirs.keys()
    assert far(ours, theirs) < 64 * 64 * EPS  # one rounding of tanh to float32 would cost 2^29 eps
    ours, theirs = left(recipe, "keras-jax", "jax", call="optimizer_steps", updates=3).values()
    assert ours.keys() == theirs.keys() and far(ours, theirs) < 64 * EPS
