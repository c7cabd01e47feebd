"""The residual network."""

from twinscale.common.families.convnet import ConvNet, convnet_blocks


def test_a_convnets_blocks_halve_and_project_where_they_must():
    blocks = convnet_blocks(ConvNet(family="convnet", channels=(8, 8, 16), blocks=2))
    assert [(b.name, b.inputs, b.outputs, b.stride, b.projects) for b in blocks] == [
        ("stage_0.block_0", 8, 8, 1, False), ("stage_0.block_1", 8, 8, 1, False),
        ("stage_1.block_0", 8, 8, 2, True), ("stage_1.block_1", 8, 8, 1, False),
        ("stage_2.block_0", 8, 16, 2, True), ("stage_2.block_1", 16, 16, 1, False)]
