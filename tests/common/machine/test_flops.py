"""Operations against counts by hand."""

import pytest

from twinscale.common.families.convnet import ConvNet
from twinscale.common.families.decoder import Decoder
from twinscale.common.families.mlp import MLP
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.machine.flops import PEAKS, forward_flops, peak_flops, train_flops

DECODER = Decoder(family="decoder", layers=2, width=8, heads=4, kv_heads=2, hidden=20, activation="swiglu")


def by_hand(pairs):
    """Of 5 tokens: q, k and v, output, gate, up and down; scores and mixing over `pairs`; the head."""
    block = 5 * 2 * (8 * 8 + 2 * 8 * 4 + 8 * 8 + 3 * 8 * 20) + pairs * (2 + 2) * 4 * 2
    return 2 * block + 5 * 2 * 8 * 11


@pytest.mark.parametrize("tied", [True, False])
def test_a_decoders_products_are_counted(tied):
    model = DECODER.model_copy(update={"tied": tied})
    assert forward_flops(model, 11, (5,), "full") == by_hand(25)
    assert forward_flops(model, 11, (5,)) == forward_flops(model, 11, (5,), "causal") == by_hand(15)
    assert train_flops(model, 11, (5,)) == 3 * by_hand(15)


def test_6n_is_six_operations_a_value_and_token():
    assert train_flops(DECODER, 11, (5,), "6N") == 6 * trained_size(parameters(DECODER, 11, (5,))) * 5
    mlp = MLP(family="mlp", hidden=(3,))
    assert train_flops(mlp, 2, (4, 4, 1), "6N") == 6 * (16 * 3 + 3 + 3 * 2 + 2)


def test_for_a_large_decoder_the_conventions_come_together():
    """At short sequences attention, norms and biases vanish beside 6N less the table that is only looked up."""
    model = Decoder(family="decoder", layers=4, width=1024, heads=8, positions="rotary")
    assert train_flops(model, 100, (8,)) / train_flops(model, 100, (8,), "6N") == pytest.approx(1, abs=0.01)


def test_a_convnets_products_are_counted():
    """7 x 7 pixels; the second stage has 4 x 4 of them, for SAME padding rounds up."""
    model = ConvNet(family="convnet", channels=(4, 6))
    stem, first = 49 * 9 * 3 * 4, 49 * (9 * 4 * 4) * 2
    second = 16 * (9 * 4 * 6 + 9 * 6 * 6 + 4 * 6)
    assert forward_flops(model, 10, (7, 7, 3)) == 2 * (stem + first + second + 6 * 10)


@pytest.mark.parametrize("kind,name", [("NVIDIA H100 80GB HBM3", "H100"), ("TPU v5p", "TPU v5p"), ("TPU v5", "TPU v5"),
                                       ("TPU v5 lite", "TPU v5 lite"), ("NVIDIA A100-SXM4-80GB", "A100")])
def test_a_device_has_its_own_peak(kind, name):
    peak, origin = peak_flops(kind, "float32")
    assert peak == PEAKS[name] and origin == f"bfloat16 peak of {name}"


def test_an_unknown_device_is_measured():
    peak, origin = peak_flops("CPU", "bfloat16")
    assert 1e8 < peak < 1e14 and "float32" in origin
    assert "float64" in peak_flops("CPU", "float64")[1]
