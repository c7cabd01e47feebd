"""One table of chips: whoever reads it knows every chip in it, and one that is added to it."""

import subprocess
import sys

import pytest

from twinscale.benchmarks.planning.plan import read_prices
from twinscale.common.launch.plan import slice_hosts
from twinscale.common.machine.chips import CHIPS, FLAT, of_accelerator, of_kind
from twinscale.common.machine.flops import PEAKS, peak_flops
from twinscale.common.machine.topology import parse, too_old

EACH = pytest.mark.parametrize("chip", CHIPS.values(), ids=lambda chip: chip.name)


@EACH
def test_every_reader_knows_every_chip(chip, tmp_path):
    for name in (chip.name, *chip.aliases):
        assert parse(f"{name}:{chip.shapes[1]}").chip is chip
    for kind in chip.kinds:
        assert of_kind(kind) is chip and peak_flops(kind, "bfloat16") == (chip.peak, f"bfloat16 peak of {kind}")
    hosts = slice_hosts(chip.accelerator, chip.shapes[-1])
    slice_ = parse(f"{chip.name}:{chip.shapes[-1]}")
    assert of_accelerator(chip.accelerator) is chip and {n * each for n, each in hosts.items()} == {slice_.chips}
    assert too_old(chip, "0.0.1") == chip.libtpu and not too_old(chip, "9.9")
    prices = tmp_path / "prices.toml"
    prices.write_text('date = 2026-11-22\ncurrency = "USD"\nsource = "x"\n[chips]\n'
                      f'{chip.name} = {{price = 3.0, per = "chip"}}\n')
    assert list(read_prices(str(prices))["chips"]) == [chip.name]


def test_no_name_is_of_two_chips():
    names = [name for chip in CHIPS.values() for name in {chip.name, chip.accelerator, *chip.kinds, *chip.aliases}]
    assert len(names) == len(set(names)) > 15 and {kind for kind in PEAKS if "TPU" in kind} <= set(names)


def test_a_flat_slice_has_hosts_for_each_shape():
    for chip in CHIPS.values():
        assert chip.flat == (chip.shapes == tuple(FLAT)) == (len(parse(f"{chip.name}:{chip.shapes[0]}").shape) == 2)


ADDED = """
import sys
from dataclasses import replace
from twinscale.common.machine import chips
chips.CHIPS["v9"] = replace(chips.CHIPS["v5e"], name="v9", kinds=("TPU v9 lite", "TPU v9"), aliases=("v9lite",),
                            peak=7e15, accelerator="tpu-v9-slice", libtpu="0.9", tensorflow=False)
from twinscale.common import errors
from twinscale.common.machine import flops
from twinscale.common.launch import plan as launch
from twinscale.common.machine import topology
from twinscale.benchmarks.planning import plan
from twinscale.benchmarks.preflight import compilers, placed
from twinscale.common.recipe.file import load
found = topology.parse("v9lite-16")
assert found.name == "v9:4x4" and flops.peak_flops("TPU v9 lite", "bfloat16")[0] == 7e15
assert launch.slice_hosts("tpu-v9-slice", "4x4") == {4: 4} and topology.too_old(found.chip, "0.8") == "0.9"
assert compilers.libtpu_of_jax() == "libtpu==0.9"
for call in (lambda: topology.check_libtpu("TPU v9 lite", "0.8"), lambda: launch.plan(
        "mlp-digits", backend="keras", run="gs://b/r", target="gke", hosts=1, options=dict(
            name="a", image="i", accelerator="tpu-v9-slice", topology="2x2")),
        lambda: placed(load("mlp-digits", []), found, "keras")):
    try:
        call()
    except errors.TwinscaleError as error:
        print(error)
plan.plan(None, topologies=["v9-16"], flops=1e21, measured=sys.argv[1], as_json=True)
"""


def test_a_chip_that_is_added_is_one_entry(tmp_path):
    """In a process of its own, as tables are made of the one when they are imported."""
    (tmp_path / "bench.json").write_text('{"schema_version": 1, "sides": {"jax": {"mfu": {"causal": 0.5, "6N": 0.5, '
                                         '"full": 0.5}, "mfu_convention": "causal, bfloat16 peak of TPU v9 lite"}}}')
    done = subprocess.run([sys.executable, "-c", ADDED, str(tmp_path / "bench.json")], capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert said[0].startswith("libtpu 0.8 is too old for TPU v9 lite")
    assert said[1].startswith("--accelerator") and "TensorFlow does not run on it" in said[1]
    assert said[2].startswith("--topology v9:4x4: TensorFlow does not run on TPU v9") and '"v9:4x4"' in done.stdout
