"""Vision transformers."""

import math

import pytest
from pydantic import ValidationError

from twinscale.common.errors import BadInput
from twinscale.common.families.vit import ViT, flops, places, positions_of, tree_of

BASE = ViT(family="vit", layers=12, width=768, heads=12, patch=16)


def test_the_base_size_is_that_of_the_paper():
    """Dosovitskiy et al. 2021, table 1: 86 million weights, 197 positions of an image of 224 x 224."""
    tree = tree_of(BASE, 1000, (224, 224, 3))
    assert sum(math.prod(p.shape) for p in tree.values()) == 86_567_656
    assert positions_of(BASE, (224, 224, 3)) == 197 and tree["patch.kernel"].shape == (16, 16, 3, 768)
    assert 17.4 < flops(BASE, tree, 1000, (224, 224, 3), "causal") / 2e9 < 17.7


def test_patches_divide_images_and_heads_the_width():
    with pytest.raises(BadInput, match="model.patch=16 does not divide images of 24 x 36: take 12 or what divides"):
        positions_of(BASE, (24, 36, 3))
    assert positions_of(BASE, (32, 48, 1)) == 7
    with pytest.raises(ValidationError, match="model.heads=3 does not divide model.width=16"):
        ViT(family="vit", width=16, heads=3)


def test_no_place_of_it_hides_anything():
    found = []
    places(BASE, lambda name, operation, *reads, **more: found.append((name, operation)) or name)
    assert not [name for name, operation in found if "mask" in operation] and found[-1] == ("head", "linear")
    names = [name for name, _ in found]
    assert names.index("class_token") < names.index("embedding.sum") < names.index("block_11.attention.mix")
