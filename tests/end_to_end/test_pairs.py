"""Programs of different hands, a Keras model and its port: one function, or the place where they part and why."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen, nnx

import twinscale
from twinscale.common.errors import BadInput, Disagreement

pytestmark = pytest.mark.usefixtures("hurried")

RNG = np.random.default_rng(0)
ROWS, IMAGES = (RNG.normal(size=shape).astype(np.float32) for shape in ((4, 12), (3, 4, 4, 3)))
IDS = RNG.integers(0, 11, (3, 5)).astype(np.int32)


@pytest.fixture(autouse=True)
def same_start():
    keras.utils.set_random_seed(0)


def tower():
    inputs = keras.Input((12,))
    x = keras.layers.Dense(8, activation="gelu", name="hidden")(inputs)
    x = keras.layers.LayerNormalization(name="norm")(x)
    return keras.Model(inputs, keras.layers.Dense(5, name="logits")(keras.layers.Dense(8, name="middle")(x)))


class Tower(nnx.Module):
    def __init__(self, epsilon=1e-3, approximate=False, bias=True):
        rngs = nnx.Rngs(0)
        self.fc1, self.ln = nnx.Linear(12, 8, rngs=rngs), nnx.LayerNorm(8, epsilon=epsilon, rngs=rngs)
        self.fc2, self.out = nnx.Linear(8, 8, rngs=rngs), nnx.Linear(8, 5, rngs=rngs)
        self.approximate, self.bias = approximate, bias

    def __call__(self, x):
        x = self.ln(nnx.gelu(self.fc1(x), approximate=self.approximate))
        return self.out(self.fc2(x))


def test_a_port_is_one_function_and_is_left_as_it_was():
    model, port = tower(), Tower()
    port.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
    before = [v.numpy().copy() for v in model.weights], jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(
        port, nnx.Param)))
    verdict = twinscale.check(model, port, ROWS)
    assert verdict and len(verdict.rows) == 9 and "One function: 9 outputs and gradients" in verdict.sentence
    verdict.raise_if_not()
    after = [v.numpy() for v in model.weights], jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(port, nnx.Param)))
    assert not port.dropout.deterministic
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))


@pytest.mark.parametrize("wrong, place, cause", [
    ({"epsilon": 1e-6}, "at norm", "root of the variance and 0.001, b by one with 1e-06"),
    ({"approximate": True}, "between hidden and norm", "a applies the exact GELU, b the tanh GELU")])
def test_a_port_that_errs_is_told_where_and_why(wrong, place, cause):
    verdict = twinscale.check(tower(), Tower(**wrong), ROWS)
    assert not verdict and place in verdict.place and cause in verdict.cause
    assert verdict.coverage.startswith("4 of 4")
    with pytest.raises(Disagreement, match="first part"):
        verdict.raise_if_not()


def test_a_model_of_tf_keras_is_checked_and_set_back():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(8, activation="relu", input_shape=(12,), name="hidden"),
                                 tf_keras.layers.Dense(5, name="logits")])
    before = [np.array(v) for v in model.weights]

    def begin(key, x):
        return [{"w": jnp.zeros((8, 12)), "b": jnp.zeros(8)}, {"w": jnp.zeros((5, 8)), "b": jnp.zeros(5)}]

    def run(p, x, slope=0.0):
        x = x @ p[0]["w"].T + p[0]["b"]
        return jnp.where(x > 0, x, slope * x) @ p[1]["w"].T + p[1]["b"]

    assert twinscale.check(model, (begin, run), ROWS)
    assert not twinscale.check(model, (begin, lambda p, x: run(p, x, 1e-3)), ROWS)
    assert all(np.array_equal(v, x) for v, x in zip(model.weights, before, strict=True))


def pictures():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", name="conv")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="bn")(x))
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(keras.layers.Flatten()(x)))


class Pictures(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train, epsilon=1e-3)(linen.Conv(6, (3, 3))(x))
        return linen.Dense(2)(linen.relu(x).reshape(x.shape[0], -1))


def init(key, x):
    norm = {"g": jnp.ones(6), "b": jnp.zeros(6), "running_mean": jnp.zeros(6), "running_var": jnp.ones(6)}
    return {"c": {"w": jnp.zeros((6, 3, 3, 3)), "b": jnp.zeros(6)}, "bn": norm,
            "fc": {"w": jnp.zeros((2, 96)), "b": jnp.zeros(2)}}


def apply(p, x):
    """As PyTorch has it: channels first, kernels turned, so that the flattened image has another order."""
    def wide(v):
        return v[:, None, None]

    x = jax.lax.conv_general_dilated(jnp.transpose(x, (0, 3, 1, 2)), p["c"]["w"], (1, 1), "SAME",
                                     dimension_numbers=("NCHW", "OIHW", "NCHW")) + wide(p["c"]["b"])
    n = p["bn"]
    x = (x - wide(n["running_mean"])) / jnp.sqrt(wide(n["running_var"]) + 1e-3) * wide(n["g"]) + wide(n["b"])
    return jax.nn.relu(x).reshape(x.shape[0], -1) @ p["fc"]["w"].T + p["fc"]["b"]


@pytest.mark.parametrize("port", [Pictures(), (init, apply)], ids=["linen", "channels first"])
def test_running_statistics_and_other_orders_of_axes_are_carried(port):
    verdict = twinscale.check(pictures(), port, IMAGES)
    assert verdict, verdict
    head = next(line for line in verdict.match.lines if line.a == ("head/kernel",))
    assert ("reshape" in head.text) == isinstance(port, tuple)


def attending():
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(11, 8, name="tok")(inputs)
    x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(2, 4, name="attention")(x, x)])
    return keras.Model(inputs, keras.layers.Dense(11, name="head")(x))


def init_fused(key, ids):
    return {"wte": jnp.zeros((11, 8)), "attn": {"qkv": {"w": jnp.zeros((24, 8)), "b": jnp.zeros(24)},
                                                "proj": {"w": jnp.zeros((8, 8)), "b": jnp.zeros(8)}},
            "head": {"w": jnp.zeros((8, 11)), "b": jnp.zeros(11)}}


def apply_fused(p, ids, scale=0.5):
    """Queries, keys and values in one kernel, turned, with those of a head beside each other."""
    x, a = p["wte"][ids], p["attn"]
    parts = jnp.split((x @ a["qkv"]["w"].T + a["qkv"]["b"]).reshape(*ids.shape, 2, 12), 3, -1)
    q, k, v = (part.transpose(0, 2, 1, 3) for part in parts)
    mixed = jax.nn.softmax(q @ k.swapaxes(-1, -2) * scale) @ v
    x = x + mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ a["proj"]["w"] + a["proj"]["b"]
    return x @ p["head"]["w"] + p["head"]["b"]


def test_heads_in_one_turned_kernel_are_found_and_a_wrong_scale_is_no_match(tmp_path):
    verdict = twinscale.check(attending(), (init_fused, apply_fused), IDS)
    assert verdict, verdict
    wrong = twinscale.check(attending(), (init_fused, lambda p, ids: apply_fused(p, ids, 0.25)), IDS,
                            match=verdict.match)
    assert not wrong and max(row.difference for row in wrong.rows) > 1e-3


def test_what_has_no_partner_is_named_before_anything_is_compared():
    with pytest.raises(BadInput, match=r"without a partner: a .Keras.: .*middle/kernel \(8, 8\)"):
        twinscale.check(tower(), (lambda key, x: {"fc": {"w": jnp.zeros((12, 8)), "b": jnp.zeros(8)}},
                                  lambda p, x: x @ p["fc"]["w"] + p["fc"]["b"]), ROWS)
    with pytest.raises(BadInput, match="keras: str: a keras.Model"):
        twinscale.check("model", Tower(), ROWS)
    with pytest.raises(BadInput, match="flax: dict: an nnx.Module"):
        twinscale.check(tower(), {}, ROWS)
    with pytest.raises(BadInput, match="flax: the program breaks on the given inputs: "):
        twinscale.check(tower(), Pictures(), ROWS)


class TwoInputs(keras.Model):
    def __init__(self):
        super().__init__()
        self.table, self.dense = keras.layers.Embedding(9, 8), keras.layers.Dense(8, activation="relu")
        self.head = keras.layers.Dense(3)

    def call(self, token_ids, mask, training=False):
        return self.head(self.dense(self.table(token_ids)) * keras.ops.expand_dims(mask, -1))


class PortOfTwo(linen.Module):
    @linen.compact
    def __call__(self, input_ids, attention_mask):
        x = linen.relu(linen.Dense(8)(linen.Embed(9, 8)(input_ids)))
        return linen.Dense(3)(x * attention_mask[..., None])


def test_two_inputs_go_by_their_names_on_either_side():
    mask = np.ones((3, 5), np.float32)
    mask[:, 3:] = 0
    names = {"ids": ("token_ids", "input_ids"), "mask": ("mask", "attention_mask")}
    assert twinscale.check(TwoInputs(), PortOfTwo(), {"ids": IDS % 9, "mask": mask}, names=names)


def test_stock_attention_of_both_frameworks_is_one_function_and_one_output_of_several_is_meant():
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, {"last": keras.layers.MultiHeadAttention(2, 4)(inputs, inputs), "twice": inputs * 2})

    class Port(nnx.Module):
        def __init__(self):
            self.mix = nnx.MultiHeadAttention(2, 8, rngs=nnx.Rngs(0), decode=False)

        def __call__(self, x):
            return self.mix(x)

    x = RNG.normal(size=(3, 5, 8)).astype(np.float32)
    assert twinscale.check(model, Port(), x, outputs=("last", None))
    with pytest.raises(BadInput, match='keras has no output lst: it has last, twice; did you mean "last"'):
        twinscale.check(model, Port(), x, outputs=("lst", None))


def test_a_sequential_model_with_dropout_is_asked_as_in_evaluation():
    layers = keras.layers.Dense(6, activation="tanh"), keras.layers.Dropout(0.5), keras.layers.Dense(2)
    model = keras.Sequential(layers)

    class Port(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.one, self.two = nnx.Linear(12, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.two(self.drop(jnp.tanh(self.one(x))))

    assert twinscale.check(model, Port(), ROWS)


def test_tensors_that_no_output_depends_on_need_no_partner():
    """Such as the head of a model of which another output is meant; those of one that does are still named."""
    inputs = keras.Input((12,))
    x = keras.layers.Dense(8, activation="tanh", name="body")(inputs)
    model = keras.Model(inputs, {"last": x, "logits": keras.layers.Dense(3, name="head")(x)})

    def begin(key, x):
        return {"fc": {"w": jnp.zeros((12, 8)), "b": jnp.zeros(8)}, "scale": jnp.ones(5)}

    def run(p, x):
        return jnp.tanh(x @ p["fc"]["w"] + p["fc"]["b"])

    verdict = twinscale.check(model, (begin, run), ROWS, outputs=("last", None))
    assert verdict and [row.what for row in verdict.rows[1:]] == ["gradient of body/kernel", "gradient of body/bias"]
    assert verdict.notes == tuple(f"{side}: no output depends on {name}, which is left out" for side, name in (
        ("a (Keras)", "head/kernel"), ("a (Keras)", "head/bias"), ("b (JAX)", "scale")))
    assert twinscale.check(model, (begin, run), ROWS, outputs=("last", None), match=verdict.match)
    with pytest.raises(BadInput, match=r"without a partner: b \(JAX\): scale \(5,\)"):
        twinscale.check(model, (begin, lambda p, x: run(p, x) * p["scale"].sum()), ROWS, outputs=("last", None))
