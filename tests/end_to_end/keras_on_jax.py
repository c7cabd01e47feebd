"""What `test_keras_program.py` asks of a process whose Keras runs on JAX: `python keras_on_jax.py FOLDER
QUESTION[:WORDS]...` prints {question: answer} as JSON; one process answers several, for it starts in seconds."""

import importlib
import inspect
import json
import sys
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.benchmarks import audit
from twinscale.common.data import batches, open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.families.parameters import initial_values, is_trained, parameters
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe import file
from twinscale.common.recipe.schema import master_dtype
from twinscale.common.training.session import open_session
from twinscale.jaxscale.program_dtypes import first_lower
from twinscale.kerasjax.room import ROOM  # whose framework gives what the runtime has
from twinscale.tfscale import batch_loss, bits, programs
from twinscale.tfscale.models import build, canonical_variables
from twinscale.tfscale.models.layers import layers as own_layers
from twinscale.tfscale.mutants_program import PORTABLE
from twinscale.tfscale.optimizer import make_optimizer, slots

keras = programs.keras  # as the room imports it, without what it may import


def first_step(recipe):
    """(a function of weights, a batch to (the objective, its sums and running statistics), weights, the batch)."""
    dataset = open_dataset(recipe)
    model = build(recipe, dataset.classes, dataset.example_shape, keras)
    variables = canonical_variables(model)
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    for name, value in initial_values(tree, recipe.seed, master_dtype(recipe), 0.0).items():
        variables[name].assign(value)
    _, batch, _ = next(iter(batches.training_batches(dataset, recipe, 0, 1)))

    def objective(weights, batch):
        given = [(variables[name], x) for name, x in weights.items()]
        with keras.StatelessScope(given) as scope:
            inputs = batch_loss.model_inputs(recipe, batch, bits.step_key(recipe.seed, 0))
            logits = model(inputs, training=True)
            moved = {name: scope.get_current_value(v) for name, v in variables.items() if not is_trained(name)}
        total, sums = batch_loss.loss_sums(recipe, logits, batch)
        return total, (sums, moved)

    return objective, {name: v.value for name, v in variables.items() if is_trained(name)}, batch


def families(folder):
    """{recipe of the audit, one of each model: where its step first computes in less than float64}, with our norms and
    with Keras'."""
    found, recipes = {}, reversed(audit.make_recipes(folder).items())  # the first of a model says most of its loss
    for name, recipe in {str(recipe.model): (name, recipe) for name, recipe in recipes}.values():
        recipe = recipe.with_values(train={"precision": "float64"})
        own = patch.multiple(own_layers(keras), **{kind: getattr(keras.layers, kind) for kind in (
            "LayerNormalization", "RMSNormalization", "GlobalAveragePooling2D")})
        for what, how in (("ours", nullcontext()), ("Keras' own", own)):
            with how:
                objective, weights, batch = first_step(recipe)
                traced = jax.jit(jax.grad(objective, has_aux=True)).trace(weights, batch)
            found[f"{name}, {recipe.model.family}, {what}"] = first_lower(traced, "float64")
    return {"lower": found, "tensorflow": "tensorflow" in sys.modules}


def wide(folder):
    """{layer: how far its output is from its formula in long double, and its gradients by input and weights from
    those of the formula in jax.numpy, relative}."""
    own, rng, found = own_layers(keras), np.random.default_rng(0), {}

    def norm(xp, x, *weights):
        scale, bias = (*weights, 0)[:2]
        centred = x - x.mean(-1, keepdims=True)
        return centred / xp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias

    def rms(xp, x, scale):
        return x / xp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

    cases = {"layer norm": (own.LayerNormalization(epsilon=1e-6, dtype="float64"), norm, (3, 5, 16)),
             "layer norm without bias": (own.LayerNormalization(epsilon=1e-6, center=False, dtype="float64"), norm,
                                         (3, 5, 16)),
             "rms norm": (own.RMSNormalization(epsilon=1e-6, dtype="float64"), rms, (3, 5, 16)),
             "pool": (own.GlobalAveragePooling2D(dtype="float64"), lambda xp, x: x.mean((1, 2)), (2, 7, 5, 4))}
    for name, (layer, formula, shape) in cases.items():
        layer.build(shape)
        given = [rng.normal(3, 1, shape), *(rng.normal(1, 0.1, v.shape) for v in layer.variables)]

        def call(x, *weights, layer=layer):
            with keras.StatelessScope(list(zip(layer.variables, weights, strict=True))):
                return layer(x)

        y, back = jax.vjp(call, *map(jnp.asarray, given))
        dy = rng.normal(0, 1, y.shape)
        found[name] = {"output": far(y, formula(np, *(np.asarray(x, np.longdouble) for x in given)))}
        wanted = jax.vjp(partial(formula, jnp), *map(jnp.asarray, given))[1](jnp.asarray(dy))
        found[name] |= {f"gradient {i}": far(*both) for i, both in enumerate(zip(back(jnp.asarray(dy)), wanted,
                                                                                 strict=True))}
    return found


def far(x, wanted):
    """The largest difference, relative to the largest value."""
    return float(np.abs(np.asarray(x, np.longdouble) - np.asarray(wanted)).max() / np.abs(np.asarray(wanted)).max())


def planted(folder, *names):
    """{change: [what it changes of the first step or update, relative, its operation]} of all that are portable, or of
    some."""
    found, healthy = {}, {}
    recipes = audit.make_recipes(folder)
    for name, change in ((name, PORTABLE[name]) for name in names or PORTABLE):
        recipe = recipes[change.recipe]
        if change.recipe not in healthy:
            healthy[change.recipe] = moved(recipe)
        try:
            with change.plant():
                made = moved(recipe)
            found[name] = [apart(made, healthy[change.recipe]), change.operation]
        except Exception as error:
            found[name] = [f"{type(error).__name__}: {error}"[:300], change.operation]
    return found


def moved(recipe):
    """{name: array} of the first step's gradients, sums and statistics, and of what three updates make of them."""
    with jax.enable_x64(recipe.train.precision == "float64"):
        objective, weights, batch = first_step(recipe)
        gradients, (sums, running) = jax.grad(objective, has_aux=True)(weights, batch)
        trained = {name: keras.Variable(x) for name, x in weights.items()}
        optimizer = make_optimizer(recipe, trained)
        for i in range(3):
            optimizer.apply([gradients[name] * (-0.5)**i for name in trained], list(trained.values()))
    arrays = {**gradients, **sums, **{f"running {name}": x for name, x in running.items()},
              **{f"after {name}": v.value for name, v in trained.items()},
              **{f"{slot} {i}": v.value for slot, held in slots(optimizer).items() for i, v in enumerate(held)}}
    return {name: np.asarray(x, np.float64) for name, x in arrays.items()}


def apart(one, other):
    """The largest difference of two sets of arrays, each relative to its own largest value; of those that rounding
    alone makes, such as gradients of keys' biases, none."""
    most = max(np.abs(x).max() for name, x in other.items() if name.endswith("kernel"))
    return max(float(np.abs(one[name] - x).max() / np.abs(x).max()) for name, x in other.items()
               if np.abs(x).max() > 1e-9 * most and not name.endswith("key.bias"))


TAKEN = {"Conv1D": (3, 2), "Conv2D": (3, 2), "Conv3D": (3, 2), "Dense": (3,), "Conv1DTranspose": (3, 2),
         "Conv2DTranspose": (3, 2), "DepthwiseConv1D": (2,), "DepthwiseConv2D": (2,), "SeparableConv1D": (3, 2),
         "SeparableConv2D": (3, 2), "MultiHeadAttention": (2, 2), "GroupQueryAttention": (4, 2, 1), "LSTM": (3,),
         "GRU": (3,), "EinsumDense": ("abc,cd->abd", (None, 5)), "Reshape": ((-1,),), "Permute": ((2, 1),),
         "RepeatVector": (3,), "GroupNormalization": (2,), "Activation": ("tanh",), "Cropping1D": (1,)}
GIVEN = [(2, 6, 6, 4), (2, 6, 4), (2, 4), (2, 4, 4, 4, 3)]


def leaking(folder):
    """{class of a stock layer: [where it first has less than float64, where as a user's program, and where that is
    kept]}."""
    warnings.simplefilter("ignore")
    found = {}
    for name, kind in vars(keras.layers).items():
        if not inspect.isclass(kind) or not issubclass(kind, keras.layers.Layer) or name in ("Layer", "Wrapper"):
            continue
        if ".preprocessing." in kind.__module__:  # of pictures and sounds as they are before training
            continue
        for shape, again in ((shape, again) for shape in GIVEN for again in (1, 2)):
            given = [np.random.default_rng(0).random(shape)] * again
            try:
                layer = kind(*TAKEN.get(name, ()), dtype="float64")
                layer(*given)
                call = lambda *xs, layer=layer: layer(*xs)  # noqa: E731
                traced = jax.jit(call).trace(*map(jnp.asarray, given))
                held = programs.open_program(kind(*TAKEN.get(name, ())), tuple(given), precision="float64")
            except Exception:  # it takes other inputs or arguments
                continue
            found[name] = [first_lower(traced, "float64"), held.lower, held.kept]
            break
    return found


def pair(folder):
    """What a user's Keras model of tests/pairs makes in float32 and in float64."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "pairs"))
    model = importlib.import_module("gpt").keras_model()
    ids = np.arange(10, dtype=np.int32).reshape(2, 5)
    found = {}
    for precision in ("float32", "float64"):
        program = programs.open_program(model, ids, precision=precision)
        ones = {name: np.ones(x.shape) for name, x in program.call(program.start, ids)[0].items()}
        gradients, made = program.gradients(program.start, ids, ones)
        found[precision] = {"outputs": {name: np.asarray(x, np.float64).tolist() for name, x in made.items()},
                            "gradients": {name: x.ravel()[:4].tolist() for name, x in gradients.items()},
                            "lower": program.lower, "dropouts": program.dropouts(ids, 2),
                            "start": {path: np.asarray(x).tolist() for path, x in program.start.items()}}
    return found


def kept(folder):
    """{precision: where a user's model keeps it}."""
    x = keras.Input((6, 4))
    y = keras.layers.LayerNormalization(name="norm")(keras.layers.Dense(4, name="plain")(x))
    y = keras.layers.MultiHeadAttention(2, 2, name="attention", flash_attention=False)(y, y)
    y = keras.layers.GlobalAveragePooling1D(name="pool")(keras.layers.Dense(4, "tanh", name="dense")(y))
    given = np.ones((2, 6, 4), np.float32)
    return {precision: programs.open_program(keras.Model(x, keras.layers.Dense(1, name="head")(y)), given,
                                             precision=precision).kept for precision in ("float64", "float32")}


def handed(folder):
    """Takes up the states of Keras on TensorFlow that a folder holds, NAME.safetensors beside NAME.toml, and leaves as
    NAME-taken what it began with and as NAME-moved what it has after a step."""
    for path in folder.glob("*.toml"):
        recipe = file.given(path)
        with ROOM.numerics(recipe):
            session = open_session(ROOM, recipe)
            state = ROOM.with_tensors(recipe, session.state, session.devices, load_tensors(
                path.with_suffix(".safetensors")), 1)
            save_tensors(folder / f"{path.stem}-taken.safetensors", ROOM.state_tensors(state))
            _, batch, _ = next(iter(batches.training_batches(session.dataset, recipe, 1, 2)))
            state, _ = ROOM.make_step(recipe, state, session.devices)(state, 1, batch)
            save_tensors(folder / f"{path.stem}-moved.safetensors", ROOM.state_tensors(state))
    return {"tensorflow": "tensorflow" in sys.modules}


def refused(folder):
    """What is said of each function of a user's module that uses TensorFlow."""
    sys.path.insert(0, str(folder))
    module, found = importlib.import_module("norms"), {}
    for name in ("model", "derived"):
        try:
            getattr(module, name)()
        except BadInput as error:
            found[name] = str(error)
    return found | {"tensorflow": "tensorflow" in sys.modules}


if __name__ == "__main__":
    asked = [question.partition(":") for question in sys.argv[2:]]
    print(json.dumps({name: globals()[name](Path(sys.argv[1]), *words.split()) for name, _, words in asked}))
