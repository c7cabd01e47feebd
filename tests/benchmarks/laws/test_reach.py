"""What lies beyond a fit's rows is said, warned of and refused, above and below."""

import pytest

from twinscale.benchmarks.laws import reach
from twinscale.common.errors import BadInput

SPANS = {"N": [1e7, 1e9], "D": [1e9, 1e11], "C": [6e16, 6e20], "bits": [3.0, 16.0]}


def at(n=1e8, d=1e10, **more):
    return {"N": n, "D": d, "C": 6 * n * d, **more}


def test_inside_is_inside_and_both_sides_are_outside():
    inside = reach.beyond(SPANS, at())
    assert inside == {"N": 1.0, "D": 1.0, "C": 1.0} and reach.told(inside) == "inside"
    assert reach.beyond(SPANS, at(5e9, 2e8)) == pytest.approx({"N": 5.0, "D": 5.0, "C": 1.0})
    assert reach.told({"N": 1.0, "D": 3.25, "C": 250.0}) == "D x 3.2, C x 250" and reach.told({}) == "not known"


@pytest.mark.parametrize("point, words", [
    (at(), []), (at(9e9), []), (at(20e9), ["N = 2e+10 is 20 times above the largest"]),
    (at(d=5e7), ["D = 5e+07 is 20 times below the smallest"]),
    (at(bits=2.0), ["bits = 2 lies outside of the rows' 3 to 16"])])
def test_ten_times_is_warned_of(point, words):
    found = reach.doubts(SPANS, point, False)
    assert len(found) == len(words) and all(word in said for word, said in zip(words, found, strict=True))


def test_a_hundred_times_is_refused_unless_said():
    with pytest.raises(BadInput, match="N = 2e\\+11 is 200 times above the largest .*--far"):
        reach.doubts(SPANS, at(2e11), False)
    assert [words[0] for words in reach.doubts(SPANS, at(2e11), True)] == ["N", "C"]
    assert reach.doubts({}, at(1e30), False) == []  # of a law of others nobody knows
