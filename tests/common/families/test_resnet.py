"""Residual networks of the usual sizes."""

import math

import pytest
from pydantic import ValidationError

from twinscale.common.families.parameters import is_trained
from twinscale.common.families.resnet import ResNet, blocks_of, flops, norm_of, places, stem_of, tree_of

EIGHTEEN = ResNet(family="resnet")
FIFTY = ResNet(family="resnet", layers=(3, 4, 6, 3), block="bottleneck")


@pytest.mark.parametrize(("m", "weights"), [(EIGHTEEN, 11_689_512), (FIFTY, 25_557_032)])
def test_sizes_are_those_of_the_papers_networks(m, weights):
    """He et al. 2016, table 1, with batch norms and the head counted, as torchvision lists them."""
    tree = tree_of(m, 1000, (224, 224, 3))
    assert sum(math.prod(p.shape) for name, p in tree.items() if is_trained(name)) == weights


def test_a_bottleneck_of_fifty_layers_takes_the_operations_that_it_is_known_for():
    """4.1 billion multiplications and additions of an image of 224 x 224, where the 3x3 convolution halves it."""
    assert flops(FIFTY, tree_of(FIFTY, 1000, (224, 224, 3)), 1000, (224, 224, 3), "full") == 2 * 4_089_184_256
    assert round(flops(EIGHTEEN, tree_of(EIGHTEEN, 1000, (224, 224, 3)), 1000, (224, 224, 3), "full") / 2e9, 1) == 1.8


def test_stages_but_the_first_halve_and_what_changes_size_projects():
    strides = {block.name: [conv.stride for conv in block.convs] for block in blocks_of(FIFTY)}
    assert strides["stage_0.block_0"] == strides["stage_1.block_1"] == [1, 1, 1] and strides["stage_1.block_0"] == [
        1, 2, 1]
    projecting = [block.name for block in blocks_of(FIFTY) if block.shortcut]
    assert projecting == [f"stage_{i}.block_0" for i in range(4)]
    assert [block.name for block in blocks_of(EIGHTEEN) if block.shortcut] == projecting[1:]
    assert norm_of("conv_2") == "norm_2" and norm_of("shortcut") == "shortcut_norm"


def test_the_stem_of_small_images_halves_nothing():
    small = ResNet(family="resnet", stem="cifar", stem_width=16)
    assert (stem_of(small, 3).size, stem_of(small, 3).stride, stem_of(EIGHTEEN, 1).size) == (3, 1, 7)
    found = []
    places(small, lambda name, operation, *reads, **more: found.append(operation) or name)
    assert "max pooling" not in found and found[-1] == "linear"


def test_as_many_widths_as_stages_are_wanted():
    with pytest.raises(ValidationError, match=r"model.layers=\[2, 2\] has 2 stages, but model.widths=\[8\] has 1"):
        ResNet(family="resnet", layers=(2, 2), widths=(8,))
