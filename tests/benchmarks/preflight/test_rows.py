"""A row of a preflight: roofline, ceilings, kernels."""

import pytest

from twinscale.benchmarks import preflight as flight
from twinscale.benchmarks.preflight import rows
from twinscale.common.machine.flops import train_flops
from twinscale.common.machine.topology import parse
from twinscale.common.recipe.schema import Recipe


def recipe_of(**sections):
    values = {"name": "tiny", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
              "train": {"global_batch": 32}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.model_validate(values)


def decoder(**sections):
    return recipe_of(**{"data": {"source": "stdlib", "sequence": 128, "cross_documents": True}, "model": {
        "family": "decoder", "layers": 2, "width": 64, "heads": 4, "hidden": 128}, **sections})


def roofline(flops=0.0, moved=0, ici=0, dcn=0, topology="v5e:2x2", recipe=None, group=4):
    collectives = [{"kind": "all-gather", "network": "ici", "group": group, "bytes_sent": ici},
                   {"kind": "all-gather", "network": "dcn", "group": 2, "bytes_sent": dcn}]
    return rows.roofline(recipe or recipe_of(), 10, (8, 8, 1), parse(topology), flops, moved, collectives)


@pytest.mark.parametrize("bound, amounts", [
    ("compute", {"flops": 197e12}), ("hbm", {"moved": 819e9}), ("interconnect", {"ici": 2 * 50e9}),
    ("dcn", {"dcn": 3.125e9})])
def test_what_takes_longest_binds(bound, amounts):
    """Each of these takes a second of a v5e whose slice of 2 x 2 has two links a chip."""
    found = roofline(**{"flops": 1.0, "moved": 1, "ici": 1, "dcn": 1} | amounts)
    assert found["bound"] == bound and found["seconds_at_least"][bound] == pytest.approx(1)
    assert found["throughput_ceiling"] == pytest.approx(32) and found["unit"] == "images/s"
    model = 32 * train_flops(recipe_of().model, 10, (8, 8, 1))
    assert found["mfu_ceiling"] == pytest.approx(model / (4 * 197e12))


def test_a_device_of_two_a_chip_has_half_of_what_the_chip_has():
    """But the links, which a ring through both devices leaves the chip by once, and which what they exchange between
    themselves does not take."""
    found = roofline(flops=2307e12 / 2, moved=7380e9 / 2, ici=2 * 100e9, dcn=12.5e9 / 2, topology="tpu7x:2x2x1")
    assert found["seconds_at_least"] == pytest.approx({"compute": 1, "hbm": 1, "interconnect": 1, "dcn": 1})
    assert found["mfu_convention"].endswith("4 x TPU7x")
    assert roofline(ici=1, topology="tpu7x:2x2x1", group=2, flops=1.0)["seconds_at_least"]["interconnect"] == 0


def test_a_ceiling_is_no_more_than_all_of_it():
    assert roofline(flops=1.0)["mfu_ceiling"] == 1.0


def test_kernels_are_counted_from_the_recipe():
    """Of 2 layers, 8 rows on 4 chips, 4 heads of 16: forward 2 products over the causal pairs, backward 3 and 4."""
    recipe = flight.placed(decoder(train={"precision": "bfloat16", "global_batch": 8}), parse("v5e:2x2"), "jax")
    calls = {"splash_mha_fwd_residuals": 2, "splash_mha_dq_no_residuals": 2, "splash_mha_dkv_no_residuals": 2}
    pairs = 128 * 129 // 2
    assert rows.kernel_flops(recipe, calls) == (2 * 2 * (2 + 3 + 4) * 2 * 4 * 16 * pairs, [])
    assert rows.kernel_flops(recipe, {"mine": 3}) == (0, ["mine"])
    fused = recipe.with_values(jax={"splash": {"use_fused_bwd_kernel": True}})
    assert rows.kernel_flops(fused, {"splash_mha_dkv": 2})[0] == 2 * 2 * 5 * 2 * 4 * 16 * pairs
    halves = recipe.with_values(devices={"data": 2, "tensor": 2}, train={"accumulate": 2})
    assert rows.kernel_flops(halves, {"splash_mha_fwd": 2})[0] == 2 * 2 * 2 * 2 * 2 * 16 * pairs
