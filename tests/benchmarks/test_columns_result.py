"""columns.json: its exit code is that of the worst pair, and a test that asks it raises what the pairs say."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from twinscale.benchmarks.columns_result import Columns
from twinscale.common.errors import Disagreement

MADE = json.loads((Path(__file__).parents[1] / "examples" / "columns.json").read_text())


def with_codes(*codes):
    return Columns.model_validate(MADE | {"pairs": [pair | {"exit_code": code} for pair, code in zip(
        MADE["pairs"], codes, strict=True)]})


@pytest.mark.parametrize(("codes", "code"), [((0, 0, 0), 0), ((0, 3, 0), 3), ((3, 1, 0), 1)])
def test_one_pair_that_parts_outweighs_one_that_stays_open(codes, code):
    found = with_codes(*codes)
    assert found.exit_code == code
    if not code:
        assert found.raise_if_not() is found
        return
    with pytest.raises(Disagreement) as raised:
        found.raise_if_not()
    assert all(pair.sentence in str(raised.value) for pair in found.pairs) and raised.value.exit_code == code


def test_a_blame_or_an_answer_that_nobody_knows_is_refused():
    for wrong in (MADE | {"rung": MADE["rung"] | {"blame": "the weather"}},
                  MADE | {"pairs": [MADE["pairs"][0] | {"answer": "perhaps"}]}):
        with pytest.raises(ValidationError):
            Columns.model_validate(wrong)
