"""The blame of the 2x2 swap: what the differences of four cells follow, and which operations leak."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscale.benchmarks.rungs.swap import CELLS, REFERENCE, blame, leaks_of, sentence, worst_gradient
from twinscale.common.families.places import places
from twinscale.common.recipe.schema import Recipe

BOUND = 1e-13
MODEL = Recipe.model_validate({"name": "tiny", "data": {"source": "digits"},
                               "model": {"family": "mlp", "hidden": [3], "dropout": 0.5}}).model


def distances(positions):
    """Of cells on a line."""
    return {frozenset(pair): abs(positions[pair[0]] - positions[pair[1]])
            for pair in itertools.combinations(CELLS, 2)}


def cells(program=0.0, runtime=0.0, **alone):
    """Where the cells stand: the Keras program, the JAX runtime and cells by themselves are off."""
    return {cell: program * (cell[0] == "keras") + runtime * (cell[1] == "jax") + alone.get("_".join(cell), 0.0)
            for cell in CELLS}


# ---- the blame

@pytest.mark.parametrize("off,wanted,cell", [
    ({}, "none", None),
    ({"program": 1e-14, "runtime": 2e-14}, "none", None),
    ({"program": 1e-3}, "program", None),
    ({"runtime": -1e-3}, "runtime", None),
    ({"keras_jax": 1e-7}, "one cell", ["keras", "jax"]),
    ({"keras_tensorflow": 1e-7}, "one cell", ["keras", "tensorflow"]),  # the reference, too
    ({"flax_tensorflow": 1e-7}, "one cell", ["flax", "tensorflow"]),
    ({"program": 1e-3, "keras_jax": 1e-7}, "program", None),  # a fault far above a leak
    ({"runtime": 1e-3, "flax_jax": -1e-7}, "runtime", None),
    ({"program": 1e-3, "runtime": 1e-3}, "several", None),
    ({"program": 2e-7, "keras_jax": 1e-7}, "several", None),
])
def test_the_difference_is_laid_on_what_it_follows(off, wanted, cell):
    found = blame(distances(cells(**off)), BOUND)
    assert (found["blame"], found["cell"]) == (wanted, cell)


@given(st.sampled_from(["program", "runtime", *("_".join(c) for c in CELLS)]), st.floats(1e-11, 1.0),
       st.lists(st.floats(-4e-14, 4e-14), min_size=4, max_size=4), st.permutations(list(CELLS)))
def test_rounding_and_order_do_not_change_the_blame(what, size, noise, order):
    where = cells(**{what: size})
    noisy = {cell: where[cell] + n for cell, n in zip(order, noise, strict=True)}
    kind = what if what in ("program", "runtime") else "one cell"
    found = blame(distances(noisy), BOUND)
    assert found["blame"] == kind and (found["cell"] is None or "_".join(found["cell"]) == what)
    assert found["across"] > BOUND >= found["within"]


def test_what_is_not_a_number_is_blamed_too():
    far = {pair: np.inf if ("flax", "jax") in pair else 0.0 for pair in distances(cells())}
    assert blame(far, BOUND)["cell"] == ["flax", "jax"]


# ---- its words

def rows(**leaks):
    return [{"program": p, "runtime": r, "leaks": leaks.get(f"{p}_{r}", [])} for p, r in CELLS]


LEAK = {"operation": "norm", "implementation": "LayerNormalization", "places": 5, "where": "norm", "worst": 1e-7}


@pytest.mark.parametrize("off,leaks,words", [
    ({}, {}, ["agree under TensorFlow and under JAX", "1.0e-13 is rounding"]),
    ({"program": 1e-3}, {}, ["follows the program", "0.0010"]),
    ({"runtime": 1e-3}, {}, ["follows the runtime", "under each the programs agree"]),
    ({"keras_jax": 1e-7}, {"keras_jax": [LEAK]},
     ["Only Keras on JAX is off", ": LayerNormalization leaks at 5 places; the other three"]),
    ({"program": 1e-3, "keras_jax": 1e-7}, {"keras_jax": [LEAK]}, ["follows the program", "see the leaks"]),
    ({"program": 1e-3, "runtime": 1e-3}, {"flax_tensorflow": [LEAK | {"places": 1}]},
     ["More than one thing", "Flax on TensorFlow: LayerNormalization leaks at 1 place)"]),
])
def test_the_sentence_says_it(off, leaks, words):
    said = sentence(blame(distances(cells(**off)), BOUND), rows(**leaks), BOUND)
    assert all(word in said for word in words), said
    assert said[-1] == "." and ". " not in said


# ---- leaks

def taps(rng):
    """What two programs that agree leave of every place."""
    found = {f"{way}/{place}": rng.normal(size=(4, 3)) for place in places(MODEL) for way in ("forward", "backward")}
    held = {f"gradients/{name}": rng.normal(size=3)
            for name in ("layer_0.kernel", "layer_0.bias", "head.kernel", "head.bias")}
    return found | held | {"loss/loss": np.float64(2.0), "loss/weight": np.float64(4.0)}


@pytest.fixture
def teacher():
    return taps(np.random.default_rng(0))


def found_with(teacher, changed, names=None):
    student = teacher | {name: teacher[name] * (1 + d) for name, d in changed.items()}
    return leaks_of(MODEL, teacher, student, BOUND, names or {})


def test_equal_numbers_do_not_leak(teacher):
    assert found_with(teacher, {}) == [] == found_with(teacher, {"forward/head": 1e-15})


def test_a_leak_has_its_operation_and_its_implementation(teacher):
    leak, = found_with(teacher, {"forward/layer_0.activation": 1e-8}, {"layer_0.activation": "keras.activations.gelu"})
    assert leak["worst"] == pytest.approx(1e-8)
    assert (leak["operation"], leak["implementation"], leak["places"], leak["where"]) == (
        "activation", "keras.activations.gelu", 1, "layer_0.activation")


def test_a_cotangent_is_laid_on_who_reads_it_and_a_gradient_on_who_holds_it(teacher):
    back, = found_with(teacher, {"backward/layer_0": 1e-8})
    assert back["where"] == "layer_0.activation"  # which reads it
    held, = found_with(teacher, {"gradients/head.bias": 1e-8})
    assert (held["where"], held["operation"], held["implementation"]) == ("head", "linear", "linear")
    loss, = found_with(teacher, {"backward/head": 1e-8})
    assert loss["operation"] == "loss"


def test_places_of_one_implementation_are_one_leak(teacher):
    changed = {"forward/layer_0": 1e-9, "forward/head": 1e-7, "loss/loss": 1e-11}
    dense, loss = found_with(teacher, changed, {"layer_0": "Dense", "head": "Dense"})
    assert (dense["implementation"], dense["places"], dense["where"]) == ("Dense", 2, "head")
    assert loss["where"] == "loss"


def test_a_residual_is_not_blamed_for_the_norm_that_reads_the_same():
    model = Recipe.model_validate({"name": "tiny", "model": {"family": "decoder", "layers": 1, "width": 4,
                                                             "heads": 1}}).model
    rng, known = np.random.default_rng(0), places(model)
    teacher = {f"{way}/{place}": rng.normal(size=(4, 3)) for place in known for way in ("forward", "backward")}
    student = teacher | {name: teacher[name] * (1 + 1e-8) for name in
                         ("forward/block_0.norm_2", "backward/block_0.residual_1")}
    leak, = leaks_of(model, teacher, student, BOUND, {})
    assert (leak["operation"], leak["places"], leak["where"]) == ("norm", 1, "block_0.norm_2")


# ---- distances

def test_a_null_direction_is_judged_by_the_largest_gradient():
    a = {"loss": 1.0, "gradients/kernel": np.array([1.0, 2.0]), "gradients/bias": np.array([3e-17])}
    b = a | {"gradients/bias": np.array([-3e-17])}
    assert worst_gradient(a, b, set()) == ("bias", 2.0)
    assert worst_gradient(a, b, {"bias"}) == ("bias", pytest.approx(3e-17))


def test_the_reference_is_a_cell():
    assert REFERENCE in CELLS and len(CELLS) == 4
