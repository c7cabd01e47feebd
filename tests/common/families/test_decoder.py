"""The decoder."""

import itertools

import pytest

from twinscale.common.families.decoder import Decoder, pieces
from twinscale.common.families.parameters import parameters, trained_size


def decoder(**values):
    return parameters(Decoder(family="decoder", layers=3, width=16, heads=4, **values), 257, (32,))


def test_a_decoder_has_gpt_2s_size():
    """12 d^2 + 13 d a block and 2 d in the last norm, besides the two tables (Radford et al. 2019)."""
    d, layers = 16, 3
    assert trained_size(decoder()) == layers * (12 * d * d + 13 * d) + 2 * d + 257 * d + 32 * d


def test_without_biases_a_block_has_kernels_and_scales_alone():
    tree = decoder(bias=False, norm="rms", activation="swiglu", kv_heads=2, positions="rotary", tied=False, hidden=40)
    assert {name.split(".")[-1] for name in tree} == {"kernel", "scale", "embedding"}
    d, half = 16, 8
    assert trained_size(tree) == 3 * (2 * d * d + 2 * d * half + 3 * d * 40 + 2 * d) + d + 2 * 257 * d
    assert "position.embedding" not in tree and tree["head.kernel"].shape == (d, 257)


@pytest.mark.parametrize("length, count", [(1, 1), (64, 1), (127, 1), (128, 4), (130, 1), (2048, 4)])
def test_attention_goes_in_pieces_that_leave_nothing_out(length, count):
    """Each begins where the one before it ends."""
    found = pieces(length)
    assert len(found) == count and found[0][0] == 0 and found[-1][1] == length
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
