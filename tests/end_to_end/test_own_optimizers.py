"""The user's own pair of optimizers in both rooms: what they leave of the same gradients, kept and gone on with."""

import re

import numpy as np
import pytest

from twinscale.benchmarks.rungs.own_optimizers import own_cause, own_rung
from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.file import given
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.session import SESSIONS, open_session
from twinscale.common.training.trace import optimizer_steps

pytestmark = [pytest.mark.usefixtures("trusting"), pytest.mark.slow]

UPDATES = 3
FILE = """
import keras
import optax
import jax

def adam():
    return keras.optimizers.Adam(1e-3)

class PortedAdam(keras.optimizers.AdamW):
    def update_step(self, gradient, variable, learning_rate):
        t = keras.ops.cast(self.iterations + 1, variable.dtype)
        self.epsilon = 1e-8 * keras.ops.sqrt(1 - keras.ops.cast(self.beta_2, variable.dtype) ** t)
        super().update_step(gradient, variable, learning_rate)

def decaying_all():
    return PortedAdam(1e-3, weight_decay=0.1)

def ported_adam():
    made = decaying_all()
    made.exclude_from_weight_decay(var_names=["bias"])
    return made

def optax_adam():
    return optax.adam(1e-3)

def optax_adamw():
    kernels = lambda p: jax.tree_util.tree_map_with_path(lambda path, x: path[-1].key != "bias", p)
    return optax.adamw(1e-3, weight_decay=0.1, mask=kernels)

def sgd(schedule=False):
    rate = keras.optimizers.schedules.CosineDecay(0.1, 5, alpha=0.1) if schedule else 0.1
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=not schedule)

def optax_sgd(schedule=False):
    return optax.sgd(optax.cosine_decay_schedule(0.1, 5, 0.1) if schedule else 0.1, momentum=0.9, nesterov=not schedule)

def rmsprop():
    return keras.optimizers.RMSprop(1e-3, epsilon=1e-6, global_clipnorm=0.5)

def optax_rmsprop():
    return optax.chain(optax.clip_by_global_norm(0.5), optax.rmsprop(1e-3, eps=1e-6))

def adagrad():
    return keras.optimizers.Adagrad(1e-2)

def optax_adagrad():
    return optax.adagrad(1e-2)

def nadam():
    return keras.optimizers.Nadam(1e-3)

def optax_nadam():
    return optax.nadam(1e-3)

def factored():
    return keras.optimizers.Adafactor(1e-3, epsilon_1=1e-16)  # of 1e-30 squares underflow

def optax_factored():
    made = optax.inject_hyperparams(optax.adafactor, static_args="min_dim_size_to_factor")
    return made(1e-3, min_dim_size_to_factor=4)

def optax_two():
    return optax.multi_transform({"a": optax.adam(1e-3), "b": optax.sgd(0.1, momentum=0.9)},
        lambda p: jax.tree_util.tree_map_with_path(lambda path, x: "b" if path[-1].key == "bias" else "a", p))

def accumulated():
    return keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)

def noisy():
    return optax.chain(optax.add_noise(0.1, 0.5, 1), optax.sgd(0.1))

def broken():
    return optax.sgd(rate=1)

def needy():
    return optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())

NUMBER = 3
"""


@pytest.fixture
def recipe(tmp_path):
    """recipe("sgd", "optax_sgd", "train.precision=float64"): one that names two functions of the file above."""
    file = tmp_path / "mine.toml"
    (tmp_path / "mine.py").write_text(FILE)

    def make(keras="sgd", jax="optax_sgd", *overrides):
        file.write_text(f'name = "own"\n[data]\nsource = "digits"\nheld_out = 0.2\n[model]\nfamily = "mlp"\n'
                        f'hidden = [24, 16]\n[optimizer]\nkeras = "mine.py:{keras}"\njax = "mine.py:{jax}"\n'
                        '[train]\nglobal_batch = 8\nsteps = 4\n[keras]\njit_compile = false\n')
        return given(file, overrides)

    return make


@pytest.fixture
def left(room_of, quickly, tmp_path):
    """left(recipe): {precision: {backend: what the same gradients left}}, in float64 and in the recipe's precision."""
    def of(recipe):
        found = {}
        for precision in dict.fromkeys(["float64", recipe.train.precision]):
            for backend, room in (("keras", "tfscale"), ("jax", "jaxscale")):
                with quickly(room):
                    path = tmp_path / f"{backend}-{precision}.safetensors"
                    optimizer_steps(room_of(room), recipe.with_values(train={"precision": precision}), path, UPDATES)
                found.setdefault(precision, {})[backend] = load_tensors(path)
        return found

    yield of
    SESSIONS.clear()


@pytest.mark.parametrize("keras,jax,more", [
    ("ported_adam", "optax_adamw", []), ("sgd", "optax_sgd", ["optimizer.clip_norm=0.3", "optimizer.ema=0.9"]),
    ("rmsprop", "optax_rmsprop", ["train.precision=bfloat16"]),
    pytest.param("adagrad", "optax_adagrad", [], marks=pytest.mark.slow)])
def test_two_optimizers_that_are_one_agree(recipe, left, keras, jax, more):
    recipe = recipe(keras, jax, *more)
    found = own_rung(left(recipe), recipe.optimizer)
    print(found["worst"], found["bound"], found["where"], found["proves"])
    assert found["agrees"], found["checks"][0]
    assert {c["what"] for c in found["checks"]} == {"float64", recipe.train.precision}
    assert ("JAX's 0.trace" in found["proves"]) == ("Keras' momentums" in found["proves"]) == (keras == "sgd")
    slots = {c["where"].partition("/")[0] for c in found["checks"]} - {"clipped", "weights", "ema"}
    assert slots == {"ported_adam": {"m", "v"}, "rmsprop": {"v"}}.get(keras, set())


@pytest.mark.parametrize("keras,jax,more,operation,said", [
    ("adam", "optax_adam", [], "update", "an epsilon of 1.0e-7 to sqrt.v.*1.0e-8 after"),
    ("decaying_all", "optax_adamw", [], "decay", "Keras' update takes 1.0e-4 of the weight away, optax' -?[0-9.]+e-1"),
    ("sgd", "optax_sgd", ["optimizer.options={schedule=true}"], "update", "the rate inside of its momentum")])
def test_a_usual_trap_is_caught_and_named(recipe, left, keras, jax, more, operation, said):
    recipe = recipe(keras, jax, *more)
    states = left(recipe)
    found = own_rung(states, recipe.optimizer)
    failed = [c for c in found["checks"] if not c["agrees"]]
    assert failed and not found["agrees"]
    told = own_cause(failed, states["float64"], recipe.optimizer)
    print(told["sentence"])
    assert told["operation"] == operation and re.search(said, told["sentence"])


# ---- kept, and gone on with


@pytest.mark.parametrize("keras,jax", [
    ("nadam", "optax_two"), pytest.param("factored", "optax_factored", marks=pytest.mark.slow)])
def test_a_training_that_was_stopped_goes_on_bit_for_bit(recipe, room_of, tmp_path, quickly, name, keras, jax):
    """Slots of other shapes than the weights', numbers that belong to no weight, tensors under several transforms."""
    recipe, room = recipe(keras, jax, "keras.jit_compile=true"), room_of(name)
    with quickly("jaxscale"):
        run_training(room, recipe, tmp_path / "whole", progress=False, probe=Probe(trace="full"))
        for stop in (2, None):
            run_training(room, recipe, tmp_path / "stopped", progress=False,
                         probe=Probe(trace="full", stop=stop, resumable=stop is not None))
    whole, stopped = (load_tensors(tmp_path / run / "trace" / "final.safetensors") for run in ("whole", "stopped"))
    groups = {key.partition("/")[0] for key in whole}
    print(sorted(groups))
    assert groups > {"weights"} and {"keras.rest", "optax.hyperparams", "m"} & groups
    assert whole.keys() == stopped.keys() and all(whole[key].tobytes() == stopped[key].tobytes() for key in whole)
    with room.numerics(recipe):
        SESSIONS.clear()
        begun = {key: np.array(x) for key, x in room.state_tensors(open_session(room, recipe).state).items()}
    assert not all(np.array_equal(begun[key], whole[key]) for key in whole if not key.startswith("weights/"))


def test_a_state_is_put_back_whole_and_takes_another_rooms_as_far_as_it_goes(recipe, room_of, quickly, name):
    recipe = recipe("nadam", "optax_two", "train.precision=float64")
    room = room_of(name)
    with quickly(name), room.numerics(recipe):
        session = open_session(room, recipe)
        first = {key: np.array(x) for key, x in room.state_tensors(session.state).items()}
        given = {key: x + 1 for key, x in first.items()}
        strange = {"keras.other/a.kernel": np.ones(2), "optax.other/a.kernel": np.ones(2)}
        state = room.with_tensors(recipe, session.state, session.devices, given | strange, 7)
        found = {key: np.array(x) for key, x in room.state_tensors(state).items()}
        assert found.keys() == given.keys() and all(np.array_equal(found[key], given[key]) for key in given)
        weights = {key: x for key, x in first.items() if key.startswith("weights/")}
        state = room.with_tensors(recipe, state, session.devices, weights, 0)
        found = {key: np.array(x) for key, x in room.state_tensors(state).items()}
        assert all(np.array_equal(x, (weights if key in weights else given)[key]) for key, x in found.items())
        again = open_session(room, recipe)  # over the same variables, and compiled functions
        assert all(np.array_equal(x, first[key]) for key, x in room.state_tensors(again.state).items())


@pytest.mark.parametrize("keras,jax,said", [
    ("NUMBER", "NUMBER", "optimizer.{} = mine.py:NUMBER: int: a function that returns"),
    ("optax_sgd", "sgd", "optimizer.{}: the function returns .* is wanted"),
    ("broken", "broken", "optimizer.{} = mine.py:broken: breaks when it is called.*TypeError"),
    ("accumulated", "noisy", "optimizer.{}: .*leave it out"),
    ("absent", "absent", "optimizer.{} = .*mine.py: has no absent"),
    ("", "needy", "optimizer.jax: breaks when it is given gradients.*value")])
def test_what_is_no_optimizer_is_refused_before_anything_is_compiled(recipe, room_of, name, keras, jax, said):
    own = {"tfscale": "keras", "jaxscale": "jax"}[name]
    if not {"keras": keras, "jax": jax}[own]:
        pytest.skip("of the other room alone")
    recipe, room = recipe(keras or "sgd", jax), room_of(name)
    with room.numerics(recipe), pytest.raises(BadInput, match=said.format(own)):
        open_session(room, recipe)
