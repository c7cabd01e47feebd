"""The stages of a compression by their labels."""

from tests.benchmarks.compression.test_compare import RECIPE
from twinscale.benchmarks.compression.stages import before, label_of, stages


def test_stages_come_in_order_under_labels_of_their_own():
    assert [(number, label) for number, _, label in stages(RECIPE)] == [(0, "1-prune"), (1, "2-quantize")]
    assert [before(RECIPE, number) for number in range(2)] == ["dense", "1-prune"] and label_of(RECIPE, -1) == "dense"
    assert [len(described.compress.stages) for _, described, _ in stages(RECIPE)] == [1, 2]
