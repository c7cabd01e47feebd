"""A finding in a sentence."""

from twinscale.benchmarks.rungs.cause import cause


def test_a_finding_says_when_where_and_by_how_much():
    found = cause("norm", "block_0.norm_1", "forward", 3, 1e-2, 1e-15, "forward/block_0.norm_1")
    assert found["sentence"] == ("step 3, forward: norm at block_0.norm_1: forward/block_0.norm_1 differs by 0.010, "
                                 "1.0e-15 is rounding")
    assert (found["tensor"], found["difference"], found["bound"]) == ("forward/block_0.norm_1", 1e-2, 1e-15)


def test_one_without_a_figure_gives_none():
    found = cause("data", "batch", "forward")
    assert found["sentence"] == "step 0, forward: data at batch" and found["tensor"] == "batch"
