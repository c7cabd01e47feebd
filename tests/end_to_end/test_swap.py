"""Each program under the other's runtime: the same numbers, leaks by their names, a fault that stays with its program,
and refusals where a swapped program has nothing to give."""

import numpy as np
import pytest

from twinscale.benchmarks.rungs.swap import SWAPPED, swap_cells
from twinscale.benchmarks.workers import each, open_workers
from twinscale.common.data import open_dataset
from twinscale.common.errors import BadInput
from twinscale.common.files.tensors import load_tensors
from twinscale.common.recipe.schema import Recipe

pytestmark = pytest.mark.slow  # four cells, each a program under a runtime


@pytest.fixture(scope="module")
def recipe(corpus):
    """A tiny decoder with dropout."""
    return Recipe.model_validate({
        "name": "tiny", "keras": {"jit_compile": False}, "data": {"source": corpus, "sequence": 16, "held_out": 0.2},
        "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2, "dropout": 0.1},
        "train": {"steps": 4, "global_batch": 4}})


@pytest.fixture(scope="module")
def workers():
    """The processes of the four cells, compiling as little as can be."""
    with open_workers() as own, open_workers({"KERAS_BACKEND": "jax"}, SWAPPED) as swapped:
        each({name: w for name, w in (own | swapped).items() if name != "flax on tensorflow"},
             lambda worker: worker.ask("hasten"))
        yield own | swapped


@pytest.fixture(scope="module")
def healthy(recipe, workers, tmp_path_factory):
    out = tmp_path_factory.mktemp("swap")
    return out, swap_cells(recipe, open_dataset(recipe), out, workers)


def cell(found, program, runtime):
    return next(row for row in found["cells"] if (row["program"], row["runtime"]) == (program, runtime))


def test_our_programs_agree_under_either_runtime(healthy):
    """All four cells, in float64: of Keras' norms on JAX ours are written so that they keep it."""
    found = healthy[1]
    for program, runtime in (("keras", "tensorflow"), ("keras", "jax"), ("flax", "jax"), ("flax", "tensorflow")):
        row = cell(found, program, runtime)
        assert max(row["loss"], row["gradient"]) <= found["bound"] < 1e-13 and row["leaks"] == [], row
    assert (found["blame"], found["cell"]) == ("none", None)


def test_leaks_have_their_names(healthy):
    leak, = cell(healthy[1], "keras, stock operations", "tensorflow")["leaks"]
    assert (leak["operation"], leak["implementation"]) == ("activation", "keras.activations.gelu (tf.nn.gelu)")
    assert leak["where"] == "block_0.feedforward.activation" and 1e-9 < leak["worst"] < 1e-7
    leak, = cell(healthy[1], "keras, stock operations", "jax")["leaks"]  # jax.nn.gelu keeps its digits
    assert (leak["operation"], leak["implementation"], leak["places"]) == ("norm", "LayerNormalization", 3)


def test_noise_is_that_of_the_recipes_precision(healthy):
    for row in healthy[1]["cells"]:
        assert 2.0**-26 < row["noise"] < 2.0**-13 and row["noise_tensor"], row


def test_random_bits_are_equal_in_every_cell(healthy):
    """What every cell drops of the same numbers."""
    taps = [load_tensors(path) for path in sorted((healthy[0] / "swap").glob("*-taps.safetensors"))]
    assert len(taps) == 6
    for place in ("embedding.dropout", "block_0.attention.dropout", "block_0.feedforward.dropout"):
        dropped = [cell[f"forward/{place}"] == 0 for cell in taps]
        assert 0 < dropped[0].mean() < 0.5
        assert all(np.array_equal(dropped[0], other) for other in dropped), place


def test_a_fault_of_a_program_stays_with_it(recipe, workers, healthy, tmp_path):
    recipe = recipe.with_values(train={"precision": "float64"})
    pair = {name: workers[name] for name in ("keras", "keras on jax")}
    each(pair, lambda worker: worker.ask("plant", change="tanh_gelu"))
    try:
        found = swap_cells(recipe, open_dataset(recipe), tmp_path, workers)
    finally:
        each(pair, lambda worker: worker.ask("plant", change=None))
    assert found["blame"] == "program" and "follows the program" in found["sentence"]
    for runtime in ("tensorflow", "jax"):
        leak = cell(found, "flax", runtime)["leaks"][0]
        assert (leak["operation"], leak["where"]) == ("activation", "block_0.feedforward.activation")
    assert all(row["noise"] is None for row in found["cells"])


def test_flax_updates_on_tensorflow_as_on_jax(recipe, workers, healthy, tmp_path):
    wide = recipe.with_values(train={"precision": "float64"})
    pair = {name: workers[name] for name in ("jax", "flax on tensorflow")}
    each(pair, lambda worker: worker.ask("optimizer_steps", wide, path=tmp_path / worker.backend, updates=2))
    here, there = (load_tensors(tmp_path / name) for name in pair)
    assert here.keys() == there.keys()
    for name in here:  # 8 eps an update, as P3
        assert np.abs(here[name] - there[name]).max() <= 16 * 2.0**-52 * np.abs(here[name]).max(), name


@pytest.mark.parametrize("name,call,arguments,message", [
    ("flax on tensorflow", "run_training", {"run_dir": "run"}, "under its own runtime"),
    ("flax on tensorflow", "contract", {}, "has no shared_tensors"),
])
def test_what_a_swapped_program_cannot_do_it_says(recipe, workers, healthy, tmp_path, name, call, arguments, message):
    arguments = {key: tmp_path / value for key, value in arguments.items()}
    with pytest.raises(BadInput, match=message):
        workers[name].ask(call, recipe, **arguments)


def test_what_cannot_be_planted_there_is_refused(workers):
    with pytest.raises(BadInput, match="frozen_kernel: nothing to plant has that name; known here: .*norm_epsilon"):
        workers["keras on jax"].ask("plant", change="frozen_kernel")
