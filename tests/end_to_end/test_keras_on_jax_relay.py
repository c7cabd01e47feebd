"""A state goes from Keras on TensorFlow to Keras on JAX and from there to Flax and back, each tensor bit for bit: what
optimizers of the user's own keep besides slots too, by names that say of which weight it is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from twinscale.common.data import training_batches
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.numbers.formats import MASTERS
from twinscale.common.recipe.file import given
from twinscale.common.training.session import SESSIONS, open_session

pytestmark = pytest.mark.usefixtures("trusting")

OPTIMIZERS = """
import keras
import optax

def adafactor():
    return keras.optimizers.Adafactor(1e-3, epsilon_1=1e-16)  # of 1e-30 squares underflow

class Own(keras.optimizers.Optimizer):
    def __init__(self):
        super().__init__(learning_rate=0.1)

    def build(self, variables):
        super().build(variables)
        self.norms = {v.path: self.add_variable((), name="norm") for v in variables}
        self.some = [self.add_variable_from_reference(v, name="speed") for v in variables if len(v.shape) > 1]
        self.loose = [self.add_variable((), name="loose") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        i = self._get_variable_index(variable)
        self.assign(list(self.norms.values())[i], keras.ops.sum(gradient * gradient))
        self.assign(self.loose[i], keras.ops.max(gradient))
        for v in self.some:
            if v.shape == variable.shape:
                self.assign(v, 0.5 * v + gradient)
        self.assign_sub(variable, keras.ops.cast(learning_rate, variable.dtype) * gradient)

def own():
    return Own()

def other():
    return optax.sgd(0.1)
"""
ADAM = 'name = "adamw"\nema = 0.9\nweight_decay = 0.1'
CASES = {f"{name}-{precision}": (ADAM if name == "adamw" else f'keras = "mine.py:{name}"\njax = "mine.py:other"',
                                 precision)
         for name, precision in (("adamw", "bfloat16"), ("adafactor", "bfloat16"), ("adafactor", "float64"),
                                 ("own", "float32"))}


def same(one, other):
    """Whether arrays of the same names are the same bits; of integers, which a runtime has as wide as it likes, the
    same numbers."""
    def alike(x, y):
        if x.dtype.kind == y.dtype.kind == "i":
            return np.array_equal(x, y)
        return x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()

    return one.keys() == other.keys() and all(alike(one[name], x) for name, x in other.items())


def moved(room, recipe):
    """The tensors of a state after its first step."""
    with room.numerics(recipe):
        session = open_session(room, recipe)
        _, batch, _ = next(iter(training_batches(session.dataset, recipe, 0, 1)))
        state, _ = session.step(session.state, 0, batch)
        return {name: np.array(x) for name, x in room.state_tensors(state).items()}


def taken(room, recipe, tensors):
    """Those of a first state that takes up another's."""
    SESSIONS.clear()
    with room.numerics(recipe):
        session = open_session(room, recipe)
        state = room.with_tensors(recipe, session.state, session.devices, tensors, 2)
        return {name: np.array(x) for name, x in room.state_tensors(state).items()}


@pytest.fixture(scope="module")
def relayed(room_of, quickly, tmp_path_factory):
    """{case: (its recipe, what Keras on TensorFlow has left, what Keras on JAX began with, what it has left)}."""
    folder, room, recipes = tmp_path_factory.mktemp("relay"), room_of("tfscale"), {}
    (folder / "mine.py").write_text(OPTIMIZERS)
    for case, (optimizer, precision) in CASES.items():
        (folder / f"{case}.toml").write_text(
            'name = "relay"\n[data]\nsource = "digits"\nheld_out = 0.2\n[model]\nfamily = "mlp"\nhidden = [24, 16]\n'
            f'dropout = 0.25\n[optimizer]\n{optimizer}\n[train]\nglobal_batch = 8\nsteps = 4\n'
            f'precision = "{precision}"\n[keras]\njit_compile = false\n')
        recipes[case] = given(folder / f"{case}.toml")
        with quickly("tfscale"):
            save_tensors(folder / f"{case}.safetensors", moved(room, recipes[case]))
    done = subprocess.run([sys.executable, str(Path(__file__).with_name("keras_on_jax.py")), str(folder), "handed"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not json.loads(done.stdout.splitlines()[-1])["handed"]["tensorflow"]
    return {case: (recipe, *(load_tensors(folder / f"{case}{of}.safetensors") for of in ("", "-taken", "-moved")))
            for case, recipe in recipes.items()}


@pytest.mark.parametrize("case", CASES)
def test_keras_on_jax_goes_on_with_all_that_keras_on_tensorflow_has_left_and_it_with_all_of_its(
        relayed, room_of, quickly, case):
    recipe, left, begun, after = relayed[case]
    alone = {name for name in left if "/tensorflow." in name}  # several of one name, of which nobody knows whose
    assert bool(alone) == case.startswith("own") and len(left) > 12
    masters = {str(x.dtype) for name, x in left.items() if name.startswith("weights/")}
    assert masters == {MASTERS[recipe.train.precision]}
    theirs = {name for name in begun if "/jax." in name}
    assert same({name: x for name, x in begun.items() if name not in theirs},
                {name: x for name, x in left.items() if name not in alone})
    assert not same(begun, after)
    with quickly("tfscale"):
        back = taken(room_of("tfscale"), recipe, after)
    assert same({name: x for name, x in back.items() if name not in alone},
                {name: x for name, x in after.items() if name not in theirs})
    with quickly("jaxscale"):
        flax = taken(room_of("jaxscale"), recipe, after)
    shared = after.keys() if case.startswith("adamw") else {name for name in after if name.startswith("weights/")}
    assert same({name: flax[name] for name in shared}, {name: after[name] for name in shared})


def test_what_an_optimizer_keeps_says_of_which_weight_it_is(relayed):
    _, _, begun, _ = relayed["adafactor-float64"]
    assert begun["keras.rest/r.layer_0.kernel"].shape == (64,) and begun["keras.rest/c.layer_0.kernel"].shape == (24,)
    _, _, begun, _ = relayed["own-float32"]
    assert begun["keras.rest/speed.layer_1.kernel"].shape == (24, 16) and "keras.rest/norms.layer_1.bias" in begun
