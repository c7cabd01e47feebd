"""Bottleneck adapters: where they lie, how many values they have, and that a model without has none of it."""

import math

import numpy as np
import pytest

from twinscale.common.export.hugging_face import layout
from twinscale.common.families.bottleneck import is_inside
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.encoder import Encoder
from twinscale.common.families.parameters import initial_values, is_decayed, is_trained, parameters
from twinscale.common.families.places import places
from twinscale.common.families.vit import ViT
from twinscale.common.machine.flops import forward_flops

SIZES = {"layers": 2, "width": 16, "heads": 2}
TEXT = (("ids", (6,), "int32"), ("labels", (), "int32"), ("mask", (6,), "int32"), ("weights", (), "float32"))
MODELS = {"decoder": (Decoder, {}, (257, (6,)), 6), "pre-norm": (Encoder, {"norm": "pre"}, (3, TEXT), 6),
          "vit": (ViT, {"patch": 4}, (10, (8, 8, 1)), 5),
          "encoder": (Encoder, {"head": "sequence", "dropout": 0.1}, (3, TEXT), 6)}


def made(name, **more):
    kind, values, sizes, positions = MODELS[name]
    return kind(family=kind.__name__.lower(), **SIZES, **values, **more), sizes, positions


@pytest.mark.parametrize("name", MODELS)
def test_each_block_has_two_whose_values_are_those_of_the_paper_and_which_begin_as_nothing(name):
    """2md + d + m of each (Houlsby et al. 2019, section 2.1)."""
    (m, sizes, positions), (plain, *_) = made(name, bottleneck=3), made(name)
    tree, without = parameters(m, *sizes), parameters(plain, *sizes)
    inside = {key: parameter.shape for key, parameter in tree.items() if is_inside(key)}
    assert tree.keys() - inside.keys() == without.keys() and list(without) == [key for key in tree if key not in inside]
    assert {key.split(".")[1] for key in inside} == {"attention", "feedforward"}
    assert sum(map(math.prod, inside.values())) == 4 * (2 * 16 * 3 + 16 + 3)
    assert all(is_trained(key) and is_decayed(key) == key.endswith("kernel") for key in inside)
    first = initial_values(tree, 1, np.float32)
    assert all(first[key].any() == key.endswith("down.kernel") for key in inside)
    assert forward_flops(m, *sizes) - forward_flops(plain, *sizes) == 4 * 2 * positions * 2 * 16 * 3


@pytest.mark.parametrize("name", MODELS)
def test_its_places_hold_its_tensors_between_dropout_and_what_the_block_adds(name):
    (m, sizes, _), (plain, *_) = made(name, bottleneck=3), made(name)
    known, start = places(m), "block_1.feedforward"
    assert {key.rpartition(".")[0] for key in parameters(m, *sizes)} <= {place.holds for place in known.values()}
    before = f"{start}.dropout" if m.dropout else f"{start}.down"
    assert known[f"{start}.adapter.down"].reads == (before,)
    assert known[f"{start}.adapter.residual"].reads == (before, f"{start}.adapter.up")
    assert known["block_1.residual_2"].reads[1] == f"{start}.adapter.residual"
    assert [key for key in known if ".adapter." not in key] == list(places(plain))
    assert not any(is_inside(f"{key}.kernel") for key in places(plain))


@pytest.mark.parametrize("name", ["decoder", "encoder", "vit"])
def test_no_layout_of_the_library_has_them(name):
    m, *_ = made(name, bottleneck=3)
    assert layout(m) == (None, "no layout has the adapters of model.bottleneck=3")
    assert "bottleneck" not in layout(made(name)[0])[1]
