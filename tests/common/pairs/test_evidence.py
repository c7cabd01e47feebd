"""How sure a line is: by what a change of it does to outputs, and by how many tensors of its size there are."""

from twinscale.common.pairs.evidence import MOST, notes_of, said_of, tried_otherwise, with_sure
from twinscale.common.pairs.match import Line
from twinscale.common.pairs.moves import State, classes_of
from twinscale.common.pairs.names import matched_by_names, sizes_of
from twinscale.common.pairs.tensors import Tensor

A = [Tensor(f"h_{i}/{name}/kernel", (6, 6)) for i in range(3) for name in ("q", "k")] + [Tensor("head/kernel", (6, 4))]
SIZES = sizes_of(A, A)
STATE = State(tuple(matched_by_names(A, A)[0]))
CLASSES = classes_of(STATE)


def test_kinds_are_swapped_two_blocks_are_and_a_square_kernel_is_turned():
    asked = []

    def difference(state):
        asked.append(state)
        return 0.5 / len(asked)

    tried = tried_otherwise(STATE, CLASSES, SIZES, difference)
    assert [(move.what, move.of) for move, _ in tried] == [
        ("swap", ("h_#/q", "h_#/k")), ("blocks", ("h_#/q",)), ("blocks", ("h_#/k",)), ("lie", ("h_#/q/kernel",)),
        ("lie", ("h_#/k/kernel",))]
    assert len(asked) == 5 <= MOST and not notes_of(tried, 1e-4)
    said = said_of(STATE, CLASSES, tried, 1e-4)
    assert said["h_2/q/kernel"] == "lying otherwise makes outputs differ by 0.1" and said[""] == "outputs agree"


def test_what_leaves_outputs_equal_is_ambiguous():
    tried = tried_otherwise(STATE, CLASSES, SIZES, lambda state: 1e-7)
    assert notes_of(tried, 1e-4)[:2] == (
        "ambiguous: h_#/q and h_#/k: these two in each other's place leave outputs equal (1.0e-07 apart)",
        "ambiguous: h_#/q: two blocks of it in each other's place leave outputs equal (1.0e-07 apart)")
    assert "ambiguous" in said_of(STATE, CLASSES, tried, 1e-4)["h_0/k/kernel"]


def test_a_line_is_the_only_one_of_its_size_or_goes_by_its_name_or_by_trial():
    lines = [Line("head/kernel", ("head/kernel",)), Line("h_0/q/kernel", ("h_0/q/kernel",)),
             Line("h_0/k/kernel", ("h_1/k/kernel",))]
    first = [*lines[:2], Line("h_0/k/kernel", ("h_0/k/kernel",))]
    sure = with_sure(lines, first, A, A, {"": "outputs agree", "h_0/q/kernel": "said"})
    assert [line.sure for line in sure] == ["the only one of its size; outputs agree", "by name; said",
                                            "found by trial; outputs agree"]
