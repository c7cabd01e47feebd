"""Two samplers side by side."""

import pytest

from twinscale.common.errors import TwinscaleError
from twinscale.common.generation.both import beside, exit_code, lines, words_of
from twinscale.common.generation.run import Wanted


def side(ids, margins=None, holds=True, prompt="a"):
    return {"rows": [{"prompt": prompt, "ids": ids, "margins": margins or [1.0] * len(ids)}], "moves": 0.1,
            "trainer": [{"holds": holds}], "backend": "jax", "run": "r"}


@pytest.mark.parametrize(("one", "other", "equal", "code"), [
    (side([1, 2, 3]), side([1, 2, 3]), 3, 0), (side([1, 2, 3]), side([1, 9, 3]), 1, 1),
    (side([1, 2, 3], [1, 0.05, 1]), side([1, 9, 3]), 1, 3), (side([1, 2]), side([1, 2, 3], [1, 1, None]), 2, 1),
    (side([1]), side([1], holds=False), 1, 1)])
def test_tokens_are_compared_up_to_where_they_part(one, other, equal, code):
    found = beside(one, other)
    assert (found["equal"], exit_code(found)) == (equal, code)
    assert lines(found)[0].startswith(f"{equal} of {found['of']} ") and len(lines(found)) == 1 + len(found["partings"])


def test_other_prompts_are_refused():
    with pytest.raises(TwinscaleError, match="other prompts"):
        beside(side([1]), side([1], prompt="b"))
    assert words_of(Wanted(("x",), check=True), "bfloat16")[-3:] == ["--precision", "bfloat16", "--check"]
