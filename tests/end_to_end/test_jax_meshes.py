"""Meshes of several axes in JAX: the same step, weights that are nowhere whole, positions that are shared."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from twinscale.common.errors import BadInput

EPS = 2.0**-52
SIDE = 16  # of a slice
MODEL = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "dropout": 0.25, "positions": "rotary", "norm": "rms",
         "activation": "swiglu", "tied": False}
MESHES = [({"data": 2, "fsdp": 2}, 2, {"shard_optimizer": True}), ({"fsdp": 2, "tensor": 2}, 1, {}),
          ({"fsdp": 2, "tensor": 2}, 1, {"fused": True}), ({"tensor": 2, "sequence": 2}, 1, {"loss_chunks": 4}),
          ({"data": 2, "sequence": 2}, 1, {"attention": "ring"})]


@pytest.mark.parametrize("sizes", [(256, 1), (16, 16), (4, 64), (2, 128), (64, 4)])
def test_any_mesh_that_divides_a_slice_can_be_laid_on_it(sizes):
    """Each chip once, also where an axis takes one side of the slice whole and a part of the other."""
    from types import SimpleNamespace

    from twinscale.jaxscale.devices import arranged

    chips = [SimpleNamespace(platform="tpu", device_kind="TPU v5 lite", coords=(x, y, 0), core_on_chip=0,
                             id=SIDE * y + x, process_index=0, slice_index=0) for y in range(SIDE) for x in range(SIDE)]
    found = arranged({"replica": 1, "data": sizes[0], "fsdp": sizes[1], "tensor": 1, "sequence": 1}, chips)
    assert found.shape == (1, *sizes, 1, 1) and {chip.id for chip in found.flat} == set(range(SIDE * SIDE))


@pytest.mark.parametrize("mesh,accumulate,how", MESHES)
def test_a_step_is_the_same_on_every_mesh(first_step, recipe_of, mesh, accumulate, how):
    """Sums over N positions in another order: apart by no more than their roundings walk, 16 sqrt(N) eps."""
    recipes = [recipe_of("decoder", model=MODEL, train={"accumulate": accumulate}, devices=devices, jax=execution)
               for devices, execution in (({}, {}), (mesh, how))]
    (_, batch, one), (_, _, several) = (first_step("jaxscale", recipe) for recipe in recipes)
    shares = batch["weights"].sum(1)
    assert len(set(shares.tolist())) > 2  # rows weigh differently, so that a mean of means would show
    bound = 16 * np.sqrt(batch["weights"].size) * EPS
    kernels = [name for name in one if not name.endswith("key.bias")]  # a null direction
    assert max(np.abs(several[name] - one[name]).max() / np.abs(one[name]).max() for name in kernels) < bound
    assert any((several[name] != one[name]).any() for name in kernels)


def test_weights_and_slots_are_born_where_they_lie(open_room, recipe_of):
    """No device holds more than its quarter of what is shared."""
    import jax

    recipe = recipe_of("decoder", model=MODEL, devices={"fsdp": 2, "tensor": 2}, optimizer={"ema": 0.9},
                       data={"tokenizer": "bpe", "vocabulary": 258})
    with open_room("jaxscale", recipe) as opened:
        state = opened.state
        for tensors in (state.weights, state.averages, state.optimizer[0].mu, state.optimizer[0].nu):
            for path, x in tensors.items():
                held = {shard.data.size for shard in x.addressable_shards}
                if path.endswith(("query.kernel", "output.kernel", "up.kernel", "down.kernel", "head.kernel")):
                    assert held == {x.size // 4}, path
                assert x.sharding.is_equivalent_to(state.weights[path].sharding, x.ndim), path
        # And what a step returns lies as what it was given: nothing is gathered on the way out.
        step = opened.room.make_step(recipe, state, opened.devices)
        before = jax.tree.map(lambda x: x.sharding, state)
        after = jax.tree.map(lambda x: x.sharding, step(state, 0, opened.batch())[0])
        assert jax.tree.all(jax.tree.map(lambda a, b: a == b, before, after))


def test_slots_that_are_shared_over_data_and_rest_in_the_hosts_memory_change_no_update(open_room, recipe_of, tmp_path):
    """Slots and averages are cut where weights are whole; a step takes them and gives them back so; and a checkpoint of
    one is read as the other's."""
    from twinscale.jaxscale.checkpoint import Store

    def trained(**sections):
        recipe = recipe_of("decoder", model={**MODEL, "bias": False}, optimizer={"ema": 0.9}, **sections)
        with open_room("jaxscale", recipe) as opened:
            step, state = opened.room.make_step(recipe, opened.state, opened.devices), opened.state
            for number in range(2):
                state, _ = step(state, number, opened.batch(number))
            return opened, state, opened.room.state_tensors(state)

    _, plain, wanted = trained()
    opened, state, found = trained(devices={"data": 2, "fsdp": 2}, jax={"shard_optimizer": True,
                                                                       "offload_optimizer": True})
    for tensors, kind in ((state.optimizer[0].mu, "pinned_host"), (state.optimizer[0].nu, "pinned_host"),
                          (state.averages, "device"), (state.weights, "device")):
        for path, x in tensors.items():
            whole = x.size // 2 if path.endswith(("kernel", "embedding")) else x.size  # over data
            parts = {shard.data.size for shard in x.addressable_shards}
            assert (x.sharding.memory_kind, parts) == (kind, {whole if tensors is state.weights else whole // 2}), path
    bound = 64 * math.sqrt(128) * EPS
    assert all(np.abs(found[name] - x).max() <= bound * np.abs(x).max() for name, x in wanted.items())
    with opened.room.numerics(opened.recipe):
        store = Store(tmp_path, state, opened.devices)
        store.write(2, state)
        store.wait()
        read = opened.room.state_tensors(store.read(2, plain))
        store.close()
    assert all(np.array_equal(read[name], x) for name, x in found.items())


@pytest.mark.parametrize("name,shape,wanted", [
    ("blocks.attention.query.kernel", (2, 16, 16), [None, "fsdp", ("tensor", "data")]),
    ("block_0.attention.query.kernel", (8, 15), [("fsdp", "data"), "tensor"]),
    ("blocks.norm_1.scale", (2, 16), [None, "data"]), ("blocks.norm_1.scale", (2, 7), [None]),
    ("position.embedding", (16, 8), ["fsdp", "data"]), ("position.embedding", (16, 7), [("fsdp", "data"), None]),
    ("position.embedding", (6, 7), ["fsdp"])])
def test_slots_are_cut_over_data_where_that_divides_a_dimension(room_of, recipe_of, name, shape, wanted):
    """Rather one that is whole, and never between blocks."""
    recipe = recipe_of("decoder", devices={"data": 2, "fsdp": 2}, jax={"shard_optimizer": True})
    assert list(room_of("jaxscale").open_devices(recipe).slots(name, shape).spec) == wanted


def test_a_memory_that_is_not_there_is_refused(room_of, recipe_of, monkeypatch):
    monkeypatch.setattr("twinscale.jaxscale.devices.HOST", "absent")
    with pytest.raises(BadInput, match="jax.offload_optimizer=true: .* has no memory absent, but .*device"):
        room_of("jaxscale").open_devices(recipe_of("mlp", jax={"offload_optimizer": True}))


@pytest.mark.parametrize("name,shape,wanted", [
    ("block_3.attention.query.kernel", (16, 16), ["fsdp", "tensor"]),
    ("blocks.feedforward.down.kernel", (2, 64, 16), [None, "tensor", "fsdp"]),
    ("block_0.attention.key.bias", (8,), ["tensor"]), ("block_0.norm_1.scale", (16,), []),
    ("embedding.embedding", (260, 16), ["tensor", "fsdp"]), ("embedding.embedding", (257, 16), [None, "fsdp"]),
    ("head.bias", (10,), [])])
def test_the_first_rule_that_knows_a_name_says_how_it_lies(room_of, recipe_of, name, shape, wanted):
    devices = room_of("jaxscale").open_devices(recipe_of("decoder", devices={"fsdp": 2, "tensor": 2}))
    assert list(devices.weights(name, shape).spec) == wanted


@pytest.mark.parametrize("name,shape,wanted", [
    ("dense.kernel", (16, 8), [None, "tensor"]), ("query.kernel", (16, 8), ["fsdp", None]),
    ("query.bias", (7,), [None]), ("scale", (), [])])
def test_of_a_model_whose_inside_is_not_known_the_users_rules_say_how_tensors_lie(room_of, recipe_of, name, shape,
                                                                                  wanted):
    """And no name of ours, which may mean something else there; `fsdp` shares what no rule knows."""
    devices = room_of("jaxscale").open_devices(recipe_of("decoder", devices={"fsdp": 2, "tensor": 2}))
    assert list(replace(devices, rules=(("dense.*", ("", "tensor")),)).weights(name, shape).spec) == wanted


@pytest.mark.parametrize("attention", ["einsum", "ring"])
def test_shared_positions_gather_keys_and_values_alone(open_room, recipe_of, attention):
    """The compiled step has the scores of a quarter of the positions against all of them, never of all; in a ring
    against as many, and gathers nothing."""
    from twinscale.jaxscale.devices_arrays import place

    recipe = recipe_of("decoder", model=MODEL, devices={"sequence": 4}, jax={"attention": attention})
    with open_room("jaxscale", recipe) as opened:
        evaluate = opened.room.make_evaluate(recipe, opened.state, opened.devices)
        compiled = next(cell.cell_contents for cell in evaluate.__closure__ if hasattr(cell.cell_contents, "lower"))
        text = compiled.lower(opened.state, place(opened.devices, opened.batch())).compile().as_text()
    there = {word: word in text for word in ("all-gather", "f64[8,2,2,4,16]", "collective-permute", "f64[8,2,2,4,4]")}
    assert list(there.values()) == [attention == "einsum"] * 2 + [attention == "ring"] * 2, there
    assert "f64[8,2,2,16,16]" not in text


@pytest.mark.parametrize("mesh", [{"sequence": 4}, {"tensor": 2, "sequence": 2}], ids=lambda mesh: "-".join(mesh))
def test_no_position_sees_a_later_one_or_another_document(open_room, recipe_of, mesh):
    """By gradients: a position's logits do not depend on what comes after it, nor on other documents."""
    import jax
    import jax.numpy as jnp

    from twinscale.jaxscale.devices_arrays import laid_out
    from twinscale.jaxscale.models.layers import causal_attention

    recipe = recipe_of("decoder", model=MODEL, devices=mesh)
    with open_room("jaxscale", recipe) as opened:
        rng = np.random.default_rng(0)
        q, k, v = (jnp.asarray(rng.normal(size=(2, 16, heads, 4))) for heads in (4, 2, 2))
        segments = jnp.asarray(np.repeat([[0, 1, 2, 2]], 2, 0).repeat(4, 1))

        def mixed(k, v, at):
            with laid_out(opened.devices):
                return jnp.sum(jnp.sin(causal_attention(q, k, v, segments)[:, at]))

        for at in (2, 5, 15):
            gradients = jax.jit(jax.grad(mixed, (0, 1)), static_argnums=2)(k, v, at)
            seen = np.abs(np.array(gradients)).sum((0, 1, 3, 4)) > 0
            document = np.array(segments[0]) == int(segments[0, at])
            assert seen.tolist() == (document & (np.arange(16) <= at)).tolist()


KEPT = {"remat": "full", "remat_save": ["attention.query", "feedforward.up"], "remat_offload": ["attention.mix"]}


@pytest.mark.parametrize("how", [{"remat": "dots"}, {"remat": "full"}, {"remat": "offload"}, KEPT],
                         ids=["dots", "full", "offload", "names"])
def test_what_the_backward_pass_computes_again_is_the_same(first_step, recipe_of, how):
    """The same operations, fused in another way perhaps: a few roundings apart."""
    plain, again = (first_step("jaxscale", recipe_of("decoder", model=MODEL, jax=execution))[2]
                    for execution in ({}, how))
    bound = 16 * math.sqrt(128) * EPS
    assert all(np.abs(again[name] - x).max() <= bound * np.abs(x).max() for name, x in plain.items())


@pytest.mark.parametrize("scan", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_place_that_is_kept_by_name_is_not_computed_again(open_room, recipe_of, scan):
    """Its product stands once less in each block of the step, in whichever memory it is kept."""
    from twinscale.common.data.shapes import data_shape
    from twinscale.jaxscale.lower import lower_step

    def products(**how):
        recipe = recipe_of("decoder", model=MODEL, jax={"scan": scan, "remat": "full", **how})
        with open_room("jaxscale", recipe) as opened:
            batch = {name: (x.shape, str(x.dtype)) for name, x in opened.batch().items()}
            text = lower_step(recipe, *data_shape(recipe), batch, opened.devices).as_text()
        return text.count("stablehlo.dot_general")

    full, named = products(), products(remat_save=["attention.query", "feedforward.up"],
                                       remat_offload=["feedforward.gate"])
    assert full - named == 3 * (1 if scan else MODEL["layers"])


@pytest.mark.parametrize("key", ["remat_save", "remat_offload"])
def test_what_is_offloaded_is_kept_in_the_hosts_memory(key):
    import jax
    import jax.numpy as jnp
    from jax.ad_checkpoint import checkpoint_name

    from twinscale.common.recipe.running import Jax
    from twinscale.jaxscale.models.layers import kept_by

    policy = kept_by(Jax(remat="full", **{key: ("norm_1",)}))
    function = jax.checkpoint(lambda x: jnp.sin(checkpoint_name(jnp.sin(x), "norm_1")), policy=policy)
    assert ("<host>" in str(jax.make_jaxpr(jax.grad(function))(1.0))) == (key == "remat_offload")


@pytest.mark.parametrize("family,model,fewer", [("decoder", MODEL, 3), ("encoder", {}, 2)])
def test_one_product_of_what_reads_the_same_has_all_places(open_room, recipe_of, family, model, fewer):
    """Queries, keys, values, and what SwiGLU multiplies: fewer products, and at each place what was there, but for
    roundings."""
    import jax

    from twinscale.jaxscale.batch_loss import model_inputs
    from twinscale.jaxscale.models import build
    from twinscale.jaxscale.taps import tapped
    from twinscale.jaxscale.train import module_of

    recipe = recipe_of(family, model={**model, "layers": 1, "dropout": 0.0}, jax={"scan": False})
    with open_room("jaxscale", recipe) as opened:
        def seen(fused, weights, batch):
            own, found = recipe.with_values(jax={"fused": fused}), {}
            model = module_of(build(own, opened.dataset.classes, opened.dataset.example_shape)[0], weights)
            with tapped(model, lambda place, x: found.setdefault(place, x)):
                model(model_inputs(own, batch, np.zeros(2, np.uint32)))
            return found

        given = opened.state.weights, opened.batch()
        plain, one = jax.jit(lambda *given: [seen(fused, *given) for fused in (False, True)])(*given)
        counts = [str(jax.make_jaxpr(lambda *given, fused=fused: seen(fused, *given))(*given)).count("dot_general[")
                  for fused in (False, True)]
    assert counts[0] - counts[1] == fewer
    assert plain.keys() == one.keys() and {"block_0.attention.value", "block_0.feedforward.up"} < plain.keys()
    bound = 64 * EPS * math.sqrt(128)
    assert all(np.abs(one[place] - x).max() <= bound * np.abs(x).max() for place, x in plain.items())


def test_kernels_side_by_side_send_no_columns(room_of, recipe_of):
    """Of three kernels whose columns four devices share, one product by each of its own, of the same numbers."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from twinscale.jaxscale.devices_arrays import laid_out, lay, products
    from twinscale.jaxscale.models.layers import Linear, Part

    names, rng = ("query", "key", "value"), np.random.default_rng(0)
    devices = room_of("jaxscale").open_devices(recipe_of("decoder", model=MODEL, devices={"tensor": 4}))
    layers, kinds = Part(), {"dtype": jnp.float32, "param_dtype": jnp.float32}
    for name, outputs in zip(names, (16, 8, 8), strict=True):
        setattr(layers, name, Linear(8, outputs, kinds=kinds, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(layers)
    weights = {path: jax.device_put(np.float32(rng.integers(-9, 9, x.shape)), devices.weights(".".join(path), x.shape))
               for path, x in nnx.to_flat_state(state)}

    def made(weights, x, fused):
        held = nnx.merge(graph, nnx.from_flat_state([(path, nnx.Param(w)) for path, w in weights.items()]))
        with laid_out(devices):
            parts = products([getattr(held, name) for name in names], x, fused)
            return [lay(name, part) for name, part in zip(names, parts, strict=True)]

    given = weights, jax.device_put(np.float32(rng.integers(-9, 9, (2, 4, 8))), devices.whole)
    compiled = jax.jit(made, static_argnums=2).lower(*given, True).compile()
    assert not re.findall("all-gather|all-to-all|collective-permute|all-reduce", compiled.as_text())
    wanted = jax.jit(made, static_argnums=2)(*given, False)
    assert all(np.array_equal(one, x) for one, x in zip(compiled(*given), wanted, strict=True))
