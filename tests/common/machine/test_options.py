"""The list of XLA's options: it is whole, and a step is compiled with what it says."""

import re

import pytest

from twinscale.common.machine import options
from twinscale.common.machine.chips import CHIPS
from twinscale.common.machine.options import EVERY, OPTIONS, WISHES, Option, chosen, is_refused, tried_on
from twinscale.common.recipe.running import Jax

GATHER = "xla_tpu_enable_async_collective_fusion_fuse_all_gather"


def test_each_option_is_described_once():
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    for option in OPTIONS:
        assert re.fullmatch(r"xla_\w+", option.name) and option.purpose and option.source
        assert set(option.chips) | set(option.tried) <= CHIPS.keys()
        assert option.value != option.off and type(option.value) is type(option.off)
        assert option.wish in WISHES and option.wish in Jax.model_fields
        assert all(re.fullmatch(r"xla_\w+", name) and name != option.name for name in option.beside)


@pytest.mark.parametrize("chip", EVERY)
def test_every_option_that_a_chip_is_given_is_in_its_table(chip):
    """So that none is set of which nobody can see what the compiler makes."""
    given = chosen("tpu", CHIPS[chip].kind, ("overlap",))
    tried = tried_on(chip)
    ours = [option for option in tried if chip in option.chips]
    assert ours and tried[:len(ours)] == ours and len({option.name for option in tried}) == len(tried)
    assert given.keys() == {name for option in ours for name in (option.name, *option.beside)}
    assert all(given[option.name] == option.value for option in ours)  # no other's need has undone it


def test_what_an_option_wants_is_set_with_it(monkeypatch):
    one = Option("xla_one", "is tried", "a test", chips=("v5p",), beside={"xla_two": 2})
    monkeypatch.setattr(options, "OPTIONS", (one,))
    assert chosen("tpu", "TPU v5", ("overlap",)) == {"xla_one": True, "xla_two": 2}
    assert chosen("tpu", "TPU v5 lite", ("overlap",)) == chosen("tpu", "TPU v99", ("overlap",)) == {}


def test_options_go_by_the_recipes_wishes_and_the_platform():
    assert chosen("gpu", "any", ("deterministic",)) == {"xla_gpu_deterministic_ops": True}
    assert chosen("gpu", "any", ()) == chosen("cpu", "cpu", WISHES) == {}
    assert chosen("tpu", "TPU v5", ("deterministic",)) == {}


def test_a_tpu_that_is_not_known_is_given_what_all_chips_are():
    common = [option.name for option in OPTIONS if option.chips == EVERY]
    assert common and list(chosen("tpu", "TPU v99", ("overlap",))) == common


def test_what_is_refused_is_so_from_a_version_on_and_not_for_all_chips():
    assert is_refused(GATHER, "TPU v5", (0, 0, 43, 2)) and is_refused(GATHER, "TPU v99", (0, 0, 43))
    assert not any(is_refused(GATHER, *of) for of in (
        ("TPU v5", (0, 0, 42, 1)), ("TPU v5 lite", (0, 0, 45)), ("TPU v5e", (0, 0, 45)), ("TPU v5", None)))
    assert not is_refused("xla_enable_async_all_gather", "TPU v5", (0, 0, 99))
    assert not is_refused("xla_of_nobody", "TPU v5", (0, 0, 99))


def test_a_chip_without_sparsecores_is_not_asked_of_them():
    assert not any("sparse_core" in option.name for option in tried_on("v5e"))
    assert sum("sparse_core" in option.name for option in tried_on("v5p")) == 4
