"""Slices by name: what there is, what is refused, and what a chip can do."""

import pytest

from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.machine.flops import PEAKS, peak_flops
from twinscale.common.machine.topology import CHIPS, check_libtpu, libtpu_version, numbers, parse


@pytest.mark.parametrize("text, name, chips, links", [
    ("v5e:4x4", "v5e:4x4", 16, 4), ("v5e-16", "v5e:4x4", 16, 4), ("v5litepod-256", "v5e:16x16", 256, 4),
    ("v4-8", "v4:2x2x1", 4, 2), ("v5p-128", "v5p:4x4x4", 64, 6), ("V5P:2x2x2", "v5p:2x2x2", 8, 3),
    ("v5p:4x4x20", "v5p:4x4x20", 320, 6), ("tpu7x-8", "tpu7x:2x2x1", 4, 2), ("tpu7x:4x4x4", "tpu7x:4x4x4", 64, 6),
    ("tpu7x-16", "tpu7x:2x2x2", 8, 3), ("v6e:1x1", "v6e:1x1", 1, 0), ("v5e:2x4", "v5e:2x4", 8, 3)])
def test_a_name_is_a_slice(text, name, chips, links):
    """v5e and v6e are sized by chips, the others by their two cores a chip; a side of 2 has one link, not two."""
    found = parse(text)
    assert (found.name, found.chips, found.links) == (name, chips, links)


def test_several_slices_are_joined():
    found = parse("v5e-16", 4)
    assert found.chips == 64 and found.options["num_slices"] == 4 and found.links == parse("v5e-16").links


def test_a_ring_closes_where_all_sides_are_whole_cubes_or_sixteen():
    assert parse("v5e:8x16").wraps == (False, True) and parse("v4:2x2x4").wraps == (False,) * 3
    assert parse("v5p:4x4x8").wraps == (True,) * 3


def test_chips_of_two_cores_are_compiled_for_as_one():
    assert {name: parse(f"{name}:{chip.shapes[1]}").options["chip_config_name"] for name, chip in CHIPS.items()} == {
        "v4": "megacore", "v5e": "default", "v5p": "megacore", "v6e": "default", "tpu7x": "default"}


def test_each_core_of_a_tpu7x_is_a_device_of_its_own():
    """Its peak is half the chip's, as frameworks name one."""
    found = parse("tpu7x:2x2x2", 2)
    assert (found.chips, found.devices, parse("v5p:2x2x2").devices) == (16, 32, 8)
    assert found.chip.peak_flops == 2 * peak_flops("TPU7x", "bfloat16")[0] == 2307e12
    assert found.chip.hbm_bytes == round(94.74 * 2**30)  # of each


def test_the_librarys_version_is_beside_it(tmp_path):
    library = tmp_path / "libtpu" / "libtpu.so"
    assert libtpu_version({"TPU_LIBRARY_PATH": str(library)}) is None
    (tmp_path / "libtpu-0.0.50.1.dist-info").mkdir()
    assert libtpu_version({"TPU_LIBRARY_PATH": str(library)}) == "0.0.50.1"
    assert numbers("0.0.50.1") >= (0, 0, 50) > numbers("0.0.42.1") > numbers("0.0.9.dev2")


@pytest.mark.parametrize("version", ["0.0.42", "0.0.42.1", "0.0.9"])
def test_devices_whose_libtpu_is_too_old_are_refused_with_what_helps(version):
    with pytest.raises(MissingEnvironment) as caught:
        check_libtpu("TPU7x", version)
    said = str(caught.value)
    assert said.startswith(f"libtpu {version} is too old for TPU7x") and said.count("\n") == 0
    assert "'libtpu>=0.0.45'" in said and "Python 3.12" in said


@pytest.mark.parametrize("kind, version", [("TPU7x", "0.0.45"), ("TPU7x", "0.1"), ("TPU7x", None), ("cpu", "0.0.9"),
                                           ("TPU v5 lite", "0.0.42"), ("TPU v6 lite", "0.0.42"), ("NVIDIA H100", None)])
def test_other_devices_and_other_libtpus_are_not(kind, version):
    check_libtpu(kind, version)


@pytest.mark.parametrize("text, words", [
    ("v5e:3x3", "there are v5e:1x1, v5e:2x2"), ("v5f:2x2", "no such chip; there are v4, v5e, v5p, v6e, tpu7x; did"),
    ("v5e-17", "v5e-1"), ("h100", "v4, v5e, v5p, v6e, tpu7x, as in v5e:4x4"), ("", "no such chip"),
    ("v5e:", "no such slice"),
    ("v5p:3x3x3", "each a multiple of 4"), ("v5p:4x4x2", "no such slice"), ("v5p:4x400x400", "no such slice"),
    ("v5e:4x4x4", "no such slice"), ("v4-9", "v4-8")])
def test_what_there_is_not_is_refused_with_what_there_is(text, words):
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_there_is_no_slice_of_none():
    with pytest.raises(BadInput, match="--slices 0"):
        parse("v5e:2x2", 0)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=lambda chip: chip.name)
def test_each_figure_has_its_source(chip):
    assert chip.peak_flops == chip.devices * PEAKS[chip.kind]
    assert set(chip.sources) == {"peak_flops", "hbm_bytes", "hbm_bandwidth", "link_bandwidth", "dcn_bandwidth"}
    assert all(parse(f"{chip.name}:{shape}").chips <= chip.largest for shape in chip.shapes)
    assert 2**33 < chip.hbm_bytes < 2**37 and chip.links == 2 * len(parse(f"{chip.name}:{chip.shapes[0]}").shape)
