"""The TPU's own compiler on steps small enough to count by hand; without libtpu nothing here can run."""

import json
import math
import os
from pathlib import Path

import pytest

from twinscale.benchmarks import preflight as flight
from twinscale.benchmarks.preflight import compilers
from twinscale.benchmarks.preflight import options as trying
from twinscale.benchmarks.preflight.rows import row as row_of
from twinscale.benchmarks.preflight.rows import totals
from twinscale.benchmarks.preflight.search import search
from twinscale.common.data.shapes import batch_shapes, data_shape
from twinscale.common.errors import MissingEnvironment
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.machine.flops import train_flops
from twinscale.common.machine.options import OPTIONS, Option
from twinscale.common.machine.topology import parse
from twinscale.common.recipe.file import load
from twinscale.common.recipe.schema import Recipe

try:
    LIBRARY, MISSING = compilers.find_libtpu(os.environ), ""
except MissingEnvironment as error:
    LIBRARY, MISSING = None, str(error)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=MISSING)

SLICE = "v5e:2x2"
CHIPS = 4
TINY = {"decoder": {"layers": 2, "width": 64, "heads": 4}, "convnet": {"channels": [8]},
        "mlp": {"hidden": [256, 128]}}
SUMS = 4 * (3 + 3)  # bytes of the loss, hits and weights, and of what hosts say, which are added up too


@pytest.fixture(scope="module", autouse=True)
def anew():
    """Compiles all that it is asked about: what is read of a program here is what the compiler says of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        yield


def recipe_of(family, **sections):
    """A tiny recipe of 32 rows in float32 with AdamW."""
    data = {"source": "stdlib", "sequence": 32} if family == "decoder" else {"source": "digits"}
    values = {"name": "tiny", "data": data, "model": {"family": family, **TINY[family]}, "train": {"global_batch": 32}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.model_validate(values)


def shapes(recipe):
    """Every tensor of the model by name."""
    return {name: p.shape for name, p in parameters(recipe.model, *data_shape(recipe)).items()}


def sizes(recipe):
    """Bytes of all weights in float32."""
    return 4 * trained_size(parameters(recipe.model, *data_shape(recipe)))


def full_flops(recipe):
    """Operations of a chip's share of a step, every product forward and twice backward."""
    return recipe.train.global_batch * train_flops(recipe.model, *data_shape(recipe), "full") // CHIPS


def held(shape):
    """Bytes of a float32 tensor in a TPU's tiles of 8 x 128, the better way round; a vector's are of 128."""
    if len(shape) < 2:
        return 4 * 128 * math.ceil((shape or (1,))[0] / 128)
    a, b = shape
    return 4 * min(8 * math.ceil(x / 8) * 128 * math.ceil(y / 128) for x, y in ((a, b), (b, a)))


def over(found, kind="all-reduce"):
    """(count, bytes) of a kind of collective."""
    return totals(found).get((kind, "ici"), (0, 0))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(recipe, topology): the row of its JAX step."""
    module = tmp_path_factory.mktemp("module") / "module.txt"
    with compilers.deep_stack():
        compiler = compilers.open_compiler("jax", LIBRARY)

    def ask(recipe, topology=SLICE):
        there = parse(topology)
        placed, (classes, example_shape) = flight.placed(recipe, there, "jax"), data_shape(recipe)
        report = compiler.ask("compile_step", placed, classes=classes, example_shape=example_shape,
                              batch=batch_shapes(recipe, example_shape), options=there.options, module=module)
        text = module.read_text() if report["compiles"] else None
        return row_of(placed, classes, example_shape, "jax", there, report, text)

    yield ask
    compiler.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(exit code, preflight.json, path of a golden) of an MLP with both backends."""
    out = tmp_path_factory.mktemp("both")
    code = flight.preflight(recipe_of("mlp"), out / "out", topologies=(SLICE,), write_golden=str(out / "golden.json"))
    return code, json.loads((out / "out" / "preflight.json").read_text()), out / "golden.json"


def test_both_backends_compile_and_fit(both):
    code, found, _ = both
    assert code == 0 and [(row["backend"], row["compiles"], row["fits"]) for row in found["results"]] == [
        ("jax", True, True), ("keras", True, True)]
    for row in found["results"]:
        assert row["mesh"]["data"] == CHIPS and row["bound"] and 0 < row["mfu_ceiling"] <= 1
        assert not row["unknown_loops"]
    assert found["parity"][0]["operations"] and found["versions"]["libtpu"]


def test_both_compute_what_is_counted_by_hand(both):
    """The first layer's gradient by its inputs is no part of a step."""
    recipe = recipe_of("mlp")
    for row in both[1]["results"]:
        assert row["flops_per_device"] == full_flops(recipe) - 2 * 64 * 256 * 32 // CHIPS
        assert row["matrix_flops_per_device"] == 6 * row["flops_per_device"]  # float32 is float32


def test_both_add_up_gradients_of_all_weights(both):
    jax, keras = both[1]["results"]
    assert over(jax) == over(keras) == (1, sizes(recipe_of("mlp")) + SUMS)


def test_both_hold_the_state_once(both):
    """Weights and both slots of AdamW with three counts, each in the memory of what it replaces."""
    jax, keras = (row["memory"] for row in both[1]["results"])
    state = 3 * sum(map(held, shapes(recipe_of("mlp")).values()))
    assert jax["alias"] == state + 3 * held(()) and state <= keras["alias"] <= state + 4 * held(())
    inputs = 8 * 8 * 8 * 128 * 4 // 8  # 8 rows of 8 x 8 x 1 pixels
    for memory in (jax, keras):
        assert 0 < memory["arguments"] - memory["alias"] - inputs <= 8 * held(())


@pytest.mark.slow
def test_a_planted_all_gather_fails_the_check(both, tmp_path):
    """Weights that lie in parts must be gathered, which the golden does not know."""
    recipe, golden = recipe_of("mlp", devices={"fsdp": 4}), str(both[2])
    assert flight.preflight(recipe, tmp_path, backends=("jax",), check=golden) == 1
    worse = json.loads((tmp_path / "preflight.json").read_text())["check"]["worse"]
    assert any("all-gather over ici 0 ->" in line for line in worse)


def test_parts_of_weights_are_held_in_parts(compiled):
    found = compiled(recipe_of("mlp", devices={"fsdp": 4}))
    parts = {name: (shape[0] // 4, *shape[1:]) if len(shape) == 2 else shape
             for name, shape in shapes(recipe_of("mlp")).items()}
    assert found["memory"]["alias"] == 3 * sum(map(held, parts.values())) + 3 * held(())
    kernels = sum(math.prod(shape) for shape in parts.values() if len(shape) == 2)
    assert over(found, "all-gather")[1] >= 4 * (kernels - math.prod(parts["layer_0.kernel"]))


@pytest.mark.parametrize("topology", ["v4-8", SLICE, "v5p-8", "v6e-4", "tpu7x-8"])
def test_what_does_not_fit_is_said_with_the_compilers_figure(compiled, topology):
    """8.6 billion weights with their slots take 96 GiB, and their gradients 32, which a TPU7x holds twice (160.14 GiB
    is what the compiler says); what a device has is what our table says."""
    found = compiled(recipe_of("mlp", model={"hidden": [1 << 17, 1 << 16]}), topology)
    assert not found["compiles"] and found["fits"] is False and "RESOURCE_EXHAUSTED" in found["error"]
    times = 2 if topology.startswith("tpu7x") else 1
    assert 96 * 2**30 < found["hbm_bytes_per_device"] < (96 + 32 * (times + 1)) * 2**30
    assert found["hbm_capacity_bytes"] == parse(topology).chip.hbm_bytes


def test_a_decoder_computes_what_is_counted_by_hand_scanned_or_not(compiled):
    """Under a scan XLA's own account counts one layer of two; ours is the same, product for product."""
    recipe = recipe_of("decoder")
    scanned, flat = compiled(recipe), compiled(recipe.with_values(jax={"scan": False}))
    assert scanned["flops_per_device"] == flat["flops_per_device"] == full_flops(recipe)
    assert scanned["flops_by_place"] == flat["flops_by_place"]
    assert scanned["compiler_flops"] < 0.8 * full_flops(recipe) < flat["compiler_flops"]
    table = 4 * math.prod(shapes(recipe)["embedding.embedding"])  # of a tied head, both of whose gradients are added up
    assert over(scanned)[1] == over(flat)[1] == sizes(recipe) + table + SUMS


@pytest.mark.slow
def test_the_compilers_own_count_of_a_flat_step_is_ours(compiled):
    """Its count has the optimizer and the activations besides: with many rows, 2 % of all."""
    recipe = recipe_of("mlp", train={"global_batch": 2048}, optimizer={"name": "sgd", "momentum": 0.0},
                       model={"hidden": [512, 512]})
    found = compiled(recipe)
    assert 0.97 * found["compiler_flops"] < found["flops_per_device"] < found["compiler_flops"]


@pytest.mark.slow
def test_a_convnet_computes_what_is_counted_by_hand(compiled):
    """Products with padding are none: a window of 3 over 8 pixels meets 22 a side. Pixels need no gradient."""
    found, rows = compiled(recipe_of("convnet")), 32 // CHIPS
    stem, block, head = 2 * rows * 22**2 * 8, 2 * rows * 22**2 * 8 * 8, 2 * rows * 8 * 10
    assert found["flops_per_device"] == 2 * stem + 3 * (2 * block + head)


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v4-8", "v5p:2x2x1", "v6e-4"])
def test_other_chips_compute_the_same(compiled, topology):
    recipe = recipe_of("decoder")
    found = compiled(recipe, topology)
    assert found["fits"] and found["flops_per_device"] == full_flops(recipe)
    assert found["hbm_capacity_bytes"] == parse(topology).chip.hbm_bytes


@pytest.mark.slow
def test_attention_on_a_tpu_is_the_kernel_and_is_counted(compiled):
    """Einsum attention computes 5 in 8 of all pairs, in four pieces, forward twice and backward four times; the kernel
    those under the mask, forward twice and backward seven times."""
    recipe = recipe_of("decoder", data={"sequence": 128}, train={"precision": "bfloat16"})
    kernel, einsum = compiled(recipe), compiled(recipe.with_values(jax={"attention": "einsum"}))
    assert (kernel["attention"], einsum["attention"]) == ("splash", "einsum")
    assert sum(kernel["kernels"].values()) == 3 * 2 and not kernel["uncounted_kernels"]
    products = 2 * 2 * (32 // CHIPS) * 64  # of all heads of both layers, for each pair
    assert kernel["kernel_flops_per_device"] == 9 * products * 128 * 129 // 2
    besides = full_flops(recipe) - 6 * products * 128**2
    assert einsum["flops_per_device"] == besides + 6 * products * 128**2 * 5 // 8
    assert kernel["flops_per_device"] - kernel["kernel_flops_per_device"] == besides
    assert einsum["kernel_flops_per_device"] == 0


@pytest.mark.slow
def test_slices_add_up_over_the_other_network(tmp_path):
    recipe = recipe_of("mlp")
    assert flight.preflight(recipe, tmp_path, topologies=(SLICE,), slices=2, backends=("jax",)) == 0
    found, = json.loads((tmp_path / "preflight.json").read_text())["results"]
    between = totals(found)["all-reduce", "dcn"]
    assert found["mesh"]["replica"] == 2 and found["chips"] == 8
    assert between[1] * CHIPS >= sizes(recipe) and found["seconds_at_least"]["dcn"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("family, accumulate", [("decoder", 1), ("decoder", 2), ("convnet", 2)])
def test_keras_computes_and_adds_up_what_jax_does(tmp_path, family, accumulate):
    """The partitioner gathers nothing of a Keras step. Gradients are added up once, but Flax' after each micro-batch
    where rows of a batch know of each other, as in batch norm."""
    recipe = recipe_of(family, train={"accumulate": accumulate})
    assert flight.preflight(recipe, tmp_path, topologies=(SLICE,)) == 0
    jax, keras = json.loads((tmp_path / "preflight.json").read_text())["results"]
    assert jax["flops_per_device"] == keras["flops_per_device"]
    times = accumulate if family == "convnet" else 1
    assert over(jax)[1] <= times * over(keras)[1] and over(keras)[1] <= 1.2 * over(jax)[1]
    assert over(keras, "all-gather") == (0, 0)


@pytest.mark.slow
def test_keras_lowers_long_rows_and_more_logits_than_32_bits_count(tmp_path):
    """2^31 logits of rows of 4,096, of which no mask is written into the module value by value."""
    recipe = recipe_of("decoder", data={"sequence": 4096}, train={"global_batch": 2048},
                       model={"layers": 1, "width": 8, "heads": 1})
    classes, example_shape = data_shape(recipe)
    assert 2048 * 4096 * classes >= 2**31
    shape = {"classes": classes, "example_shape": example_shape, "batch": batch_shapes(recipe, example_shape)}
    with compilers.Side("keras", LIBRARY, tmp_path, data_shape(recipe)) as side:
        side.lower(recipe, shape, tmp_path / "keras.hlo")
    assert 0 < (tmp_path / "keras.hlo").stat().st_size < 4096 * 4096


# ---- what ships

@pytest.mark.slow  # `make preflight` asks this of every golden
@pytest.mark.parametrize("name", ["mlp-digits", "decoder-stdlib"])
def test_a_small_recipe_is_no_worse_than_its_golden(name, tmp_path):
    assert flight.preflight(load(f"recipes/{name}.toml", []), tmp_path, check=f"recipes/goldens/{name}.json") == 0


def test_every_golden_has_its_recipe_and_the_versions_that_are_pinned():
    pinned = dict(line.split("==") for lock in ("requirements.lock", "requirements-tpu.lock")
                  for line in Path(lock).read_text().splitlines() if "==" in line)
    goldens = {path.parents[1] / f"{path.stem}.toml": path for path in Path("recipes").glob("**/goldens/*.json")}
    assert goldens.keys() >= set(Path("recipes/tpu").glob("decoder-*.toml"))
    for recipe, path in goldens.items():
        golden = json.loads(path.read_text())
        assert load(str(recipe), []).hash == golden["hash"], path
        assert all(pinned[name] == version for name, version in golden["versions"].items()), path


@pytest.mark.slow
def test_a_search_ends_where_one_step_more_does_not_fit(tmp_path, monkeypatch):
    """Its answer, asked again by a preflight of its own, and one step more: the first fits."""
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    recipe = recipe_of("decoder", data={"sequence": 4096}, jax={"attention": "einsum"})
    assert search(recipe, tmp_path / "search", topologies=("v5e:1x1",), remats=["none"]) == 0
    best = json.loads((tmp_path / "search" / "search.json").read_text())["candidates"][0]
    assert best["settled"] and best["over"]["global_batch"] == best["global_batch"] + 1 > 1
    for batch, code in ((best["global_batch"], 0), (best["global_batch"] + 1, 1)):
        again = recipe.with_values(train={"global_batch": batch})
        assert flight.preflight(again, tmp_path / str(batch), topologies=("v5e:1x1",), backends=("jax",)) == code


@pytest.mark.slow
def test_an_option_is_measured_refused_or_unknown_as_the_compiler_has_it(tmp_path, monkeypatch):
    """A fusion of gathers, which libtpu refuses on a v5p, is forgotten to be known for it."""
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    known = {option.name: option for option in OPTIONS}
    refused = "xla_tpu_enable_async_collective_fusion_fuse_all_gather"
    listed = [known["xla_enable_async_all_gather"], Option(refused, "fuses", "a test"),
              Option("xla_tpu_of_nobody", "nothing", "a test")]
    monkeypatch.setattr(trying, "tried_on", lambda chip: listed)
    monkeypatch.setattr(trying, "is_refused", lambda *_: False)
    recipe = recipe_of("mlp", devices={"fsdp": CHIPS})
    assert trying.options(recipe, tmp_path / "out", topologies=("v5p:2x2x1",)) == 0
    table, = json.loads((tmp_path / "out" / "options.json").read_text())["topologies"]
    lines = {line["option"]: line for line in table["options"]}
    states = [line["state"] for line in lines.values()]
    assert states == ["compiled", "refused", "unknown"]
    assert lines["xla_enable_async_all_gather"]["effect"] and refused in lines[refused]["said"]
