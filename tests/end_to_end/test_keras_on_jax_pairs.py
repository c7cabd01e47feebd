"""A user's own Keras program on JAX beside its port: matched, stepped and refused there, as Flax' is."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.files.run_files import RunFiles
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.file import given

pytestmark = pytest.mark.usefixtures("trusting")

ROOMS = {"keras-jax": "twinscale.kerasjax", "jax": "twinscale.jaxscale"}
KERAS = """
import keras
from keras import layers

def build():
    images = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv")(images)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm")(x)
    x = layers.Reshape((16, 24))(layers.Activation("gelu")(x))
    x = layers.Dropout(0.25)(x + layers.MultiHeadAttention(2, 12, name="attention")(x, x, use_causal_mask=True))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6, name="last")(x))
    return keras.Model(images, layers.Dense(10, name="logits")(x))

class Narrow(layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.cast(x, "float32"), self.compute_dtype)

def narrow():
    images = keras.Input((8, 8, 1))
    return keras.Model(images, layers.Dense(10, name="logits")(Narrow()(layers.Flatten()(images))))

class Mine(layers.Layer):
    def call(self, x):
        import tensorflow as tf
        return tf.reduce_mean(x, axis=(1, 2))

def tensorflows():
    images = keras.Input((8, 8, 1))
    return keras.Model(images, layers.Dense(10, name="logits")(Mine(name="mine")(images)))
"""
FLAX = """
import jax
import jax.numpy as jnp
from flax import linen

class Port(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Conv(6, (3, 3), use_bias=False, name="stem")(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name="bn")(x)
        x = jax.nn.gelu(x, approximate=False).reshape(x.shape[0], 16, 24)
        mask = linen.make_causal_mask(jnp.ones(x.shape[:2]))
        x = x + linen.MultiHeadDotProductAttention(2, name="mha")(x, x, mask=mask)
        x = linen.Dropout(0.25, deterministic=not train)(x)
        return linen.Dense(10, name="head")(linen.LayerNorm(epsilon=1e-6, name="ln")(x).mean(1))

def build():
    return Port()
"""
OPTIMIZERS = """
import keras
import optax

def adafactor():
    return keras.optimizers.Adafactor(1e-3, epsilon_1=1e-16)  # of 1e-30 squares underflow

def factored():
    return optax.adafactor(1e-3, min_dim_size_to_factor=4)
"""
RECIPE = """name = "on-jax"
[data]
source = "digits"
held_out = 0.2
[model]
family = "pair"
reads = "images"
keras = "mine.py:build"
flax = "theirs.py:build"
match = "match.toml"
dropout = "shared"
[train]
global_batch = 8
steps = 3
"""


@pytest.fixture(scope="module")
def folder(workers, tmp_path_factory):
    """The folder of a pair that was matched, its Keras side on JAX."""
    found = tmp_path_factory.mktemp("pair")
    for name, text in (("mine.py", KERAS), ("theirs.py", FLAX), ("pair.toml", RECIPE),
                       ("optimizers.py", OPTIMIZERS)):
        (found / name).write_text(text)
    recipe = given(found / "pair.toml", ["train.precision=float32"])
    first = {"first": found / "match.safetensors", "outputs": found / "outputs.safetensors"}
    workers["keras-jax"].ask("leave_program", recipe, **first)
    said = workers["jax"].ask("match_program", recipe, **first, out=found / "match.toml")
    assert said["agrees"] and said["difference"] < 1e-5
    return found


# Chains of about ten contractions of at most 144 terms, and a division by deviations of a tenth.
@pytest.mark.parametrize("precision, far", [("float64", 1e-12), ("float32", 1e-3), ("bfloat16", 0.2)])
def test_a_first_step_is_its_ports_batch_norm_attention_and_dropout_too(left, folder, precision, far):
    recipe = given(folder / "pair.toml", [f"train.precision={precision}"])
    found = left(recipe)
    ours, theirs = found["keras-jax"], found["jax"]
    assert ours.keys() == theirs.keys() and len(ours) > 12
    largest = max(float(abs(x).max()) for name, x in theirs.items() if name.startswith("gradients/"))
    for name, x in theirs.items():  # a key's bias moves no loss
        size = largest if name.startswith("gradients/") else abs(x).max()
        assert abs(ours[name] - x).max() <= far * size, name


@pytest.mark.parametrize("program, said", [
    ("tensorflows", r"layer `mine` .Mine. calls tf.reduce_mean .mine.py:\d+., which Keras' JAX runtime has not: write "
                    "keras.ops.mean"),
    ("narrow", "computes in less than float64")])
def test_what_it_cannot_be_is_said_in_one_line(workers, folder, program, said):
    recipe = given(folder / "pair.toml", [f"model.keras={folder}/mine.py:{program}", "train.precision=float64"])
    with pytest.raises(BadInput, match=said) as error:
        workers["keras-jax"].ask("first_step", recipe, path=folder / "none.safetensors")
    assert "\n" not in str(error.value)


def test_what_is_planted_inside_is_where_it_was_planted_and_gone_afterwards(workers, left, folder):
    """Of the program what Keras has of it, of the step what JAX has."""
    recipe, worker = given(folder / "pair.toml", ["train.precision=float64"]), workers["keras-jax"]

    def found(change=None):
        worker.ask("plant", change=change)
        return left(recipe, "keras-jax")["keras-jax"]

    healthy = found()
    scaled, lost, swapped = map(found, ("scaled_output@logits", "lost_gradient@logits.kernel",
                                        "swapped_tensors@last/gamma&last/beta"))
    np.testing.assert_allclose(scaled["logits"], 1.01 * healthy["logits"], rtol=1e-12)
    assert healthy["gradients/logits.kernel"].any() and not lost.pop("gradients/logits.kernel").any()
    assert all(np.array_equal(x, healthy[name]) for name, x in lost.items())
    assert not np.allclose(swapped["logits"], healthy["logits"])
    assert sight(worker, recipe, folder) != sight(worker, recipe, folder, "swapped_tensors@last/gamma&last/beta")
    assert all(np.array_equal(x, healthy[name]) for name, x in found().items())


def sight(worker, recipe, folder, change=None):
    """What a program is seen to make of its inputs, as bytes."""
    worker.ask("plant", change=change)
    worker.ask("leave_sight", recipe, path=str(folder / "sight"), training=False)
    worker.ask("plant", change=None)
    return (folder / "sight").read_bytes()


SHARED = ['model.shard={"logits.kernel"=["fsdp", "tensor"], "logits.bias"=["tensor"]}', "devices.fsdp=2",
          "devices.tensor=2"]


@pytest.fixture
def own(folder):
    """own(*overrides): the pair's recipe with an optimizer of the user's that keeps factors of its weights."""
    def make(*overrides):
        return given(folder / "pair.toml", [f"optimizer.keras={folder}/optimizers.py:adafactor", *overrides,
                                            f"optimizer.jax={folder}/optimizers.py:factored",
                                            "train.precision=float64"])

    return make


def test_their_rules_share_tensors_and_what_their_optimizer_keeps_of_them_on_a_mesh(left, own):
    """A factor has fewer dimensions than its weight, of which the rules are. Four devices add up in another order."""
    one, four = (left(own(*more), call="optimizer_steps", updates=2) for more in ([], SHARED))
    for backend, wanted in one.items():
        assert wanted.keys() == four[backend].keys()
        for name, x in wanted.items():
            assert abs(np.float64(four[backend][name]) - x).max() <= 1e-13 * abs(x).max(), (backend, name)
    assert one["keras-jax"]["0/keras.rest/r.logits.kernel"].shape == (24,)


def test_a_training_on_a_mesh_that_was_stopped_goes_on_bit_for_bit_with_their_optimizer(workers, own, tmp_path):
    recipe = own(*SHARED)
    for run, stops in {"whole": [None], "stopped": [2, None]}.items():
        for stop in stops:
            probe = {"trace": "full", "evaluated": False, "stop": stop, "resumable": stop is not None}
            workers["keras-jax"].ask("run_training", recipe, run_dir=tmp_path / run, probe=probe, progress=False)
    whole, stopped = (load_tensors(RunFiles(tmp_path / run).final) for run in ("whole", "stopped"))
    assert whole.keys() == stopped.keys() and any(name.startswith("keras.rest/c.") for name in whole)
    assert all(whole[name].tobytes() == x.tobytes() for name, x in stopped.items())
