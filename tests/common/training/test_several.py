"""Which steps go together in a call."""

from twinscale.common.training.several import calls, next_due


def items(start, stop):
    return iter([(number, f"batch {number}", f"hash {number}") for number in range(start, stop)])


def test_a_call_ends_where_something_is_due():
    def until(number):
        return next_due(number, (5, 0), [8, 12])

    found = list(calls(items(1, 12), 3, until))
    assert [(number, count) for number, *_, count in found] == [(1, 3), (4, 1), (5, 3), (8, 2), (10, 2)]
    assert [batch for _, batches, *_ in found for batch in batches] == [f"batch {number}" for number in range(1, 12)]
    assert found[1][1:3] == (["batch 4"], ["hash 4"])  # the one that is left over goes through the same program


def test_steps_that_go_alone_are_in_no_list():
    assert list(calls(items(0, 2), 1, lambda number: 99)) == [(0, "batch 0", "hash 0", 1), (1, "batch 1", "hash 1", 1)]


def test_what_is_due_next_lies_behind():
    assert next_due(4, (4, 6), []) == 6 and next_due(5, (0, 0), [3, 5, 9]) == 9
