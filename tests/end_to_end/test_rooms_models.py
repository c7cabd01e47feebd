"""The same model in both rooms: names, first weights, logits and gradients, and what attention may see."""

import itertools

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import initial_values, parameters

EPS = 2.0**-52
# A tensor's error, of its own largest value. A forward and backward pass through these models is a chain of at most
# 26 contractions of at most K = 64 terms, each off by sqrt(K) eps = 8 eps of its scale; added up without cancelling
# 26 x 8 = 208 eps. Seen: 13 eps. A single rounding to float32 on the way costs 2^29 eps = 5e8 eps.
BOUND = 256 * EPS


def worst(found, wanted, scale=None):
    """The largest error of a tensor, of its largest value."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / (np.abs(wanted).max() if scale is None else scale))


# ---- the option combinations

# Ten two-valued options in six models, so that every pair of options meets in all four of its combinations: the first
# row has none, and the other five spread each option's three "yes" over a 3-subset of five of its own.
OPTIONS = ("rms", "rotary", "untied", "no_bias", "grouped", "dropout", "smoothed", "unrolled", "crossing", "swiglu")
SPREAD = dict(zip(OPTIONS, itertools.combinations(range(5), 3), strict=True))
ROWS = [frozenset()] + [frozenset(option for option in OPTIONS if row in SPREAD[option]) for row in range(5)]


def sections(chosen, gelu="gelu"):
    """The recipe's sections for a set of options."""
    model = {"norm": "rms" if "rms" in chosen else "layer",
             "positions": "rotary" if "rotary" in chosen else "learned", "tied": "untied" not in chosen,
             "bias": "no_bias" not in chosen, "kv_heads": 2 if "grouped" in chosen else 0,
             "dropout": 0.25 if "dropout" in chosen else 0.0,
             "activation": "swiglu" if "swiglu" in chosen else gelu}
    smoothed = {"label_smoothing": 0.1, "z_loss": 1e-3} if "smoothed" in chosen else {}
    return {"model": model, "train": smoothed, "jax": {"scan": "unrolled" not in chosen},
            "data": {"cross_documents": "crossing" in chosen}}


MODELS = {f"decoder {i}": ("decoder", sections(row, "gelu_tanh" if i % 2 else "gelu")) for i, row in enumerate(ROWS)}
# One of them as recipes come: compiled by XLA in both rooms, with all its optimisations.
MODELS["decoder 2"][1]["keras"] = {"jit_compile": True}
MODELS |= {"convnet": ("convnet", {"model": {"dropout": 0.25, "channels": [4, 6]}}),
           "mlp": ("mlp", {"model": {"dropout": 0.25, "activation": "gelu"}, "train": {"label_smoothing": 0.1}})}


def test_the_options_meet_in_pairs():
    pairs = {(a, b): {(a in row, b in row) for row in ROWS} for a, b in itertools.combinations(OPTIONS, 2)}
    assert all(len(seen) == 4 for seen in pairs.values())


@pytest.fixture(params=MODELS)
def model(request, recipe_of):
    family, changes = MODELS[request.param]
    return recipe_of(family, **changes)


# ---- names and first weights

# Eight options in 16 models, so that every three meet in all eight combinations (a 2^(8-4) design, resolution IV).
SIXTEEN = [(a, b, c, d, a ^ b ^ c, a ^ b ^ d, a ^ c ^ d, b ^ c ^ d)
           for a, b, c, d in itertools.product((0, 1), repeat=4)]
STRUCTURE = ("rms", "rotary", "untied", "no_bias", "grouped", "dropout", "unrolled", "swiglu")


def holds_first_weights(open_room, name, recipe):
    with open_room(name, recipe) as opened:
        tree = parameters(recipe.model, opened.dataset.classes, opened.dataset.example_shape)
        dtype = "float64" if recipe.train.precision == "float64" else "float32"
        wanted, found = initial_values(tree, recipe.seed, dtype), opened.weights()
    assert set(found) == set(wanted)
    for key, first in wanted.items():
        assert found[key].dtype == first.dtype and found[key].shape == tree[key].shape
        assert found[key].tobytes() == first.tobytes(), key
    assert len({x.tobytes() for x in wanted.values() if x.std() > 0}) == sum(x.std() > 0 for x in wanted.values())


@pytest.mark.parametrize("picked", SIXTEEN)
def test_decoders_hold_the_canonical_names_and_first_weights(open_room, recipe_of, name, picked):
    chosen = {option for option, there in zip(STRUCTURE, picked, strict=True) if there}
    holds_first_weights(open_room, name, recipe_of("decoder", **sections(chosen)))


@pytest.mark.parametrize("family,changes", [
    ("convnet", {"model": {"channels": [4, 4, 6], "blocks": 2}, "optimizer": {"ema": 0.9}}),
    ("convnet", {"train": {"precision": "bfloat16"}}),
    ("mlp", {"train": {"precision": "float32"}}),
    ("mlp", {"model": {"hidden": []}, "train": {"precision": "bfloat16"}})])
def test_the_other_families_too(open_room, recipe_of, name, family, changes):
    holds_first_weights(open_room, name, recipe_of(family, **changes))


# ---- logits and gradients in float64

def test_logits_and_loss_are_those_of_the_transcription(first_step, reference, model, name):
    weights, batch, tensors = first_step(name, model, optimised=model.keras.jit_compile)
    logits, _ = reference.forward(model, weights, batch, number=0)
    assert tensors["logits"].dtype == np.float64
    assert worst(tensors["logits"], logits) < BOUND
    assert abs(tensors["loss"] / reference.loss(model, logits, batch) - 1) < BOUND
    if model.model.dropout:  # and the dropout it agrees on is there
        assert worst(tensors["logits"], reference.forward(model, weights, batch)[0]) > 1e-3


def test_gradients_agree(first_step, model):
    ours, theirs = (first_step(name, model, optimised=model.keras.jit_compile)[2] for name in ("tfscale", "jaxscale"))
    assert list(ours) == list(theirs) or set(ours) == set(theirs)
    assert sum(key.startswith("gradients/") for key in ours) > 5
    for key in ours:
        null = key.endswith("key.bias") and model.model.positions == "learned"
        # Softmax does not see what all of a query's scores share, so a key bias has a gradient of exactly zero: what
        # is there is rounding of the scale of the kernel beside it.
        scale = np.abs(theirs[key.replace(".bias", ".kernel")]).max() if null else None
        assert worst(ours[key], theirs[key], scale) < BOUND, key
        assert np.abs(ours[key]).max() > 0 or null


@pytest.mark.parametrize("family,leaf", [("decoder", "block_0.attention.value.kernel"), ("convnet", "stem.conv.kernel"),
                                         ("mlp", "layer_0.bias")])
def test_gradients_are_those_of_the_loss(first_step, reference, recipe_of, name, family, leaf):
    """Against a central difference of the transcription along it, whose error is about eps^(2/3) = 4e-11 of the loss's
    scale (step eps^(1/3) = 6e-6: h^2 from the third derivative, eps / h from rounding); 1e3 of that for the
    derivatives' own scale. A wrong gradient is off by its size, 1e-3 at least."""
    recipe = recipe_of(family, **MODELS["decoder 3" if family == "decoder" else family][1])
    weights, batch, tensors = first_step(name, recipe)
    gradient, h = tensors[f"gradients/{leaf}"], 6e-6
    direction = gradient / np.linalg.norm(gradient)

    def loss(by):
        logits, _ = reference.forward(recipe, {**weights, leaf: weights[leaf] + by * direction}, batch, number=0)
        return reference.loss(recipe, logits, batch)

    slope = (gradient * direction).sum()
    assert abs(slope) > 1e-3
    assert abs((loss(h) - loss(-h)) / (2 * h) - slope) < 1e3 * 4e-11


def test_float64_has_no_float32_on_its_way(first_step, reference, recipe_of, name):
    """Against 80-bit arithmetic. Two contractions of K = 64 and 24: sqrt(K) eps of the terms' scale each, at most
    8 + 5 eps, twice that for the scale of the sum against its terms'."""
    recipe = recipe_of("mlp")
    weights, batch, tensors = first_step(name, recipe)
    wide = {key: x.astype(np.longdouble) for key, x in weights.items()}
    logits, _ = reference.forward(recipe, wide, batch, number=0)
    assert logits.dtype == np.longdouble and np.finfo(logits.dtype).eps < EPS / 1000
    assert worst(tensors["logits"].astype(np.longdouble), logits) < 26 * EPS


# ---- lower precision

def test_float32_agrees_to_float32(first_step, recipe_of):
    """The bound in float64, with float32's eps in place of float64's."""
    recipe = recipe_of("decoder", **{**MODELS["decoder 3"][1], "train": {"precision": "float32"}})
    ours, theirs = (first_step(name, recipe)[2] for name in ("tfscale", "jaxscale"))
    for key in ours:
        null = key.endswith("key.bias")
        scale = np.abs(theirs[key.replace(".bias", ".kernel")]).max() if null else None
        assert ours[key].dtype == theirs[key].dtype == np.float32
        assert worst(ours[key], theirs[key], scale) < 256 * 2.0**-23, key


@pytest.mark.parametrize("family,changes", [("decoder", {}), ("convnet", {"model": {"channels": [4]}})])
def test_bfloat16_computes_in_bfloat16(first_step, reference, recipe_of, name, family, changes):
    """Some 26 roundings to 8 bits (unit roundoff 2^-9) between the embedding and the logits, each of the tensor's
    scale: added up without cancelling 26 x 2^-9 = 5 %. And coarser than float32 by far: it is not float32."""
    recipe = recipe_of(family, **changes, train={"precision": "bfloat16"})
    weights, batch, tensors = first_step(name, recipe)
    assert all(x.dtype == np.float32 for x in weights.values())
    assert tensors["logits"].dtype == np.float32
    exact, _ = reference.forward(recipe, {key: x.astype(np.float64) for key, x in weights.items()}, batch, number=0)
    assert 2.0**-12 < worst(tensors["logits"], exact) < 26 * 2.0**-9


# ---- Keras 3 and tf_keras

@pytest.mark.parametrize("asked", ["decoder 0", "decoder 1", "decoder 4", "convnet", "mlp"])
def test_keras_and_tf_keras_make_the_same_model(recipe_of, asked):
    import keras
    import tensorflow as tf
    import tf_keras

    from twinscale.common.data import input_specs, open_dataset, training_batches
    from twinscale.tfscale.models import build, canonical_variables

    family, changes = MODELS[asked]
    recipe = recipe_of(family, **{**changes, "train": {"precision": "float32"}})
    dataset = open_dataset(recipe)
    batch = next(training_batches(dataset, recipe, 0, 1))[1] | {"key": np.array([1, 2], np.uint32)}
    specs = input_specs(recipe, dataset.example_shape)
    inputs = {name: tf.cast(batch[name], kind) for name, (_, kind) in specs.items()}
    first = initial_values(parameters(recipe.model, dataset.classes, dataset.example_shape), 5, "float32")
    outputs = []
    for library in (keras, tf_keras):
        model = build(recipe, dataset.classes, dataset.example_shape, library)
        variables = canonical_variables(model)
        assert list(variables) == [name for name in variables if name in first] and len(variables) == len(first)
        for name, value in first.items():
            variables[name].assign(value)
        outputs.append([model(inputs, training=training).numpy() for training in (False, True)])
    for ours, theirs in zip(*outputs, strict=True):
        assert ours.std() > 1e-3
        assert ours.tobytes() == theirs.tobytes(), worst(theirs, ours)


def test_weights_within_a_layer_have_names_of_their_own():
    """Two kernels of one composite layer, or of a model within a model, are two; two of one name are an error."""
    import keras
    import tf_keras

    from twinscale.tfscale.models import canonical_variables

    def around(keras):
        class Pair(keras.layers.Layer):
            def build(self, shape):
                self.wide, self.narrow = keras.layers.Dense(3, name="wide"), keras.layers.Dense(2, name="narrow")
                self.wide.build(shape)
                self.narrow.build((None, 3))

            def call(self, x):
                return self.narrow(self.wide(x))

        x = keras.Input((5,))
        within = keras.Sequential([keras.layers.Dense(3, name="wide"), keras.layers.Dense(2, name="narrow")], name="in")
        return keras.Model(x, keras.layers.Dense(1, name="head")(within(Pair(name="pair")(x))))

    model = around(keras)
    named = canonical_variables(model)
    assert list(named) == ["pair.wide.kernel", "pair.wide.bias", "pair.narrow.kernel", "pair.narrow.bias",
                           "in.wide.kernel", "in.wide.bias", "in.narrow.kernel", "in.narrow.bias",
                           "head.kernel", "head.bias"]
    assert all(a is b for a, b in zip(named.values(), model.weights, strict=True))
    with pytest.raises(BadInput, match="pair.kernel: two variables"):  # tf_keras does not say which layer holds one
        canonical_variables(around(tf_keras))


def test_a_users_keras_json_changes_no_model(recipe_of):
    import keras
    import tf_keras

    from twinscale.tfscale.models import build

    recipe = recipe_of("convnet", model={"channels": [4, 6]})
    for library in (keras, tf_keras):
        library.backend.set_image_data_format("channels_first")
        library.backend.set_floatx("float64")
        library.backend.set_epsilon(0.1)
        try:
            model = build(recipe, 10, (8, 6, 1), library)
        finally:
            library.backend.set_image_data_format("channels_last")
            library.backend.set_floatx("float32")
            library.backend.set_epsilon(1e-7)
        assert all(tuple(layer.kernel.shape[-2:]) in ((1, 4), (4, 4), (4, 6), (6, 6)) for layer in model.layers
                   if layer.__class__.__name__ == "Conv2D")
        assert model.output_shape == (None, 10)


# ---- attention

def probing(opened, T, segments):
    """A batch in which row r holds tokens of its own and asks for the loss at position r alone: the gradient of
    embedding row r T + s is then that of logits[r] by input s."""
    batch = {"inputs": np.arange(T * T, dtype=np.int32).reshape(T, T), "labels": np.full((T, T), 7, np.int32),
             "weights": np.eye(T, dtype=np.float32), "positions": np.tile(np.arange(T, dtype=np.int32), (T, 1)),
             "row": np.arange(T, dtype=np.uint32)}
    if segments is not None:
        batch["segments"] = np.tile(np.asarray(segments, np.int32), (T, 1))
    gradient = opened.tensors(batch)["gradients/embedding.embedding"]
    assert not gradient[T * T:].any()  # the vocabulary's last entry is in no row
    return np.abs(gradient[:T * T]).reshape(T, T, -1).max(-1) > 0


def test_a_position_sees_its_past_in_its_document_alone(open_room, recipe_of, name):
    recipe, T = recipe_of("decoder", **sections({"untied", "rotary", "rms", "grouped", "swiglu"})), 16
    segments = np.repeat([0, 1, 2], [5, 4, 7])
    with open_room(name, recipe) as opened:
        sees = probing(opened, T, segments)
    past = np.tril(np.ones((T, T), bool))
    assert np.array_equal(sees, past & (segments[:, None] == segments))
    assert sees[15, 9] and not sees[9, 8]


def test_the_reference_tells_the_right_key_head_from_the_wrong(first_step, reference):
    """What makes the agreement of grouped heads with the transcription mean something."""
    family, changes = next((f, c) for f, c in MODELS.values() if c["model"].get("kv_heads"))
    from twinscale.common.recipe.schema import Recipe

    base = {"name": "tiny", "seed": 5, "model": {"family": family, "layers": 2, "width": 16, "heads": 4,
                                                 **changes["model"], "dropout": 0.0}}
    recipe, rng = Recipe.model_validate(base), np.random.default_rng(0)
    tree = parameters(recipe.model, 257, (16,))
    weights = initial_values(tree, 5, "float64")
    batch = {"inputs": rng.integers(0, 257, (4, 16)), "positions": np.tile(np.arange(16), (4, 1))}
    right, wrong = (reference.decoder(recipe.model, weights, batch, lambda _, x: x, False, {}, key_head=by)
                    for by in (reference.key_head, lambda h, heads, kv: h % kv))
    assert worst(wrong, right) > 1e-4


@pytest.fixture
def crossing(open_room, recipe_of, name):
    """A room with rotary positions and one document a row."""
    chosen = sections({"rotary", "untied", "grouped", "crossing"}) | {"train": {"global_batch": 4}}
    recipe = recipe_of("decoder", **chosen)
    with open_room(name, recipe) as opened:
        yield opened


def test_documents_see_each_other_where_they_may(crossing):
    assert np.array_equal(probing(crossing, 16, None), np.tril(np.ones((16, 16), bool)))


def test_rotary_positions_are_relative(crossing):
    """Rows 0-3 stand at positions p, rows 4-7 at p + 8, rows 8-11 at p read backwards, and so again. The angles are
    below 16 and rounded to 8 eps; a score is a sum of 4 products of such, all within BOUND."""
    p, batch = np.arange(16, dtype=np.int32) // 2, crossing.batch()
    whole = {key: np.tile(x, (4,) + (1,) * (x.ndim - 1)) for key, x in batch.items()}
    whole["positions"] = np.repeat([p, p + 8, p[::-1], p], 4, axis=0)
    here, shifted, backwards, again = np.split(crossing.tensors(whole)["logits"], 4)
    assert worst(shifted, here) < BOUND and np.array_equal(again, here)
    assert worst(backwards, here) > 1e-4


# ---- no side effects

def test_asking_for_a_steps_tensors_moves_nothing(open_room, recipe_of):
    """In Keras, where a forward pass could move running statistics; in JAX a state is a value."""
    recipe = recipe_of("convnet", optimizer={"ema": 0.9})
    with open_room("tfscale", recipe) as opened:
        before = {key: np.array(x) for key, x in opened.room.state_tensors(opened.state).items()}
        tensors = opened.tensors()
        after = opened.room.state_tensors(opened.state)
    assert {key.split("/")[0] for key in after} == {"weights", "m", "v", "ema"}
    assert any(np.abs(x).max() > 0 for key, x in tensors.items() if key.startswith("gradients/"))
    assert all(np.array_equal(before[key], after[key]) for key in before)


# ---- float32

def test_batch_norm_keeps_its_digits(recipe_of, name):
    """32,768 values a channel whose mean is 100 deviations. A few roundings at the mean's size cost 100 eps = 1e-5 of
    a deviation each: no more than 8 of them. E[x^2] - E[x]^2, Keras' own under a strategy, would be off by 100^2 eps =
    1e-3, and sums of all values one by one, TensorFlow's own on a CPU, by up to 100 x 181 eps, 181 = sqrt(32,768)."""
    model, x = recipe_of("convnet").model, np.random.default_rng(0).normal(100, 1, (32, 32, 32, 3)).astype(np.float32)
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + model.norm_epsilon)
    if name == "tfscale":
        import keras
        import tensorflow as tf

        from twinscale.tfscale.models.layers import layers

        norm = layers(keras).BatchNormalization(epsilon=model.norm_epsilon)
        found = tf.distribute.OneDeviceStrategy("CPU:0").run(lambda: norm(x, training=True)).numpy()
    else:
        from flax import nnx

        from twinscale.jaxscale.models.layers import batch_norm

        found = batch_norm(model, 3, {}, nnx.Rngs(0))(x, use_running_average=False)
    assert np.abs(found - wanted).max() < 8 * 100 * 2.0**-23


# ---- what moves

def test_halves_of_heads_change_places_in_the_dtype_that_comes_in(name):
    """Widened first, twice as many bytes would move, for the same values."""
    shape, positions = (2, 8, 4, 16), np.tile(np.arange(8), (2, 1))
    if name == "tfscale":
        import keras
        import tensorflow as tf

        from twinscale.tfscale.models.layers import layers

        rotate = layers(keras).Rotary(8, 1e4, dtype="bfloat16")
        traced = tf.function(lambda x: rotate(x, positions)).get_concrete_function(tf.TensorSpec(shape, tf.bfloat16))
        found = {op.outputs[0].dtype.name for op in traced.graph.get_operations() if op.type in (
            "ConcatV2", "Split", "SplitV")}
    else:
        import jax

        from twinscale.jaxscale.models.layers import rotary

        lowered = jax.jit(lambda x: rotary(x, positions, 8, 1e4)).lower(jax.ShapeDtypeStruct(shape, "bfloat16"))
        parts = [line for line in lowered.as_text().splitlines() if "concatenate" in line and "x4x16x" in line]
        found = {"bfloat16" if line.endswith("xbf16>") else line for line in parts}
    assert found == {"bfloat16"}
