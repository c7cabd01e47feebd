"""columns.json: its exit code is that of the worst pair, and a test that asks it raises what the pairs say."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from twinscale.benchmarks.columns_result import Columns, parted_in, read_comparison
from twinscale.benchmarks.verdict import Verdict
from twinscale.common.errors import BadInput, Disagreement

EXAMPLES = Path(__file__).parents[1] / "examples"
MADE = json.loads((EXAMPLES / "columns.json").read_text())


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


# ---- as it is read back

def left_in(out, **values):
    """The directory of a comparison of three columns, which has a verdict of the first pair."""
    first = out / MADE["pairs"][0]["directory"]
    first.mkdir(parents=True)
    (first / "verdict.json").write_bytes((EXAMPLES / "verdict.json").read_bytes())
    (out / "columns.json").write_text(json.dumps(MADE | values))
    return out


def test_what_three_columns_say_is_read_from_their_directory_or_file_and_a_pair_from_its_own(tmp_path):
    out = left_in(tmp_path / "out")
    found = read_comparison(out)
    assert isinstance(found, Columns) and found.agrees and found.sentence == MADE["sentence"]
    assert read_comparison(out / "columns.json").model_dump() == found.model_dump()
    assert isinstance(read_comparison(out / found.pairs[0].directory), Verdict)
    (tmp_path / "mine.json").write_bytes((out / "columns.json").read_bytes())
    assert isinstance(read_comparison(tmp_path / "mine.json"), Columns)  # whatever it is called
    assert repr(found).startswith("Columns(agrees=True, blame='none'") and "toml" not in repr(found)


@pytest.mark.parametrize(("content", "said"), [
    ("[]", "expected a table of keys"), ("{", "is not JSON"), ('{"pairs": []}', "schema_version"),
    ('{"agrees": true}', "mine.json: "), (json.dumps(MADE | {"agrees": "yes"}), "agrees = .yes.: expected true"),
    (json.dumps(MADE | {"schema_version": 99}), "schema_version")])
def test_a_file_that_is_no_comparison_is_refused_in_a_line_that_names_it(tmp_path, content, said):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(BadInput, match=said) as raised:
        read_comparison(tmp_path / "mine.json")
    assert "mine.json" in str(raised.value) and "\n" not in str(raised.value)


def test_a_directory_without_a_comparison_and_one_that_has_not_ended_are_refused(tmp_path):
    out = left_in(tmp_path / "out")
    (out / "columns.json").unlink()
    with pytest.raises(BadInput, match="out: its comparison of columns has not ended, and has no columns.json"):
        read_comparison(out)
    with pytest.raises(BadInput, match="verdict.json"):
        read_comparison(tmp_path)
    with pytest.raises(BadInput, match="nothing"):
        read_comparison(tmp_path / "nothing")


@pytest.mark.parametrize(("answers", "pair"), [
    (("fails", "fails", "agrees"), "keras+keras-jax"), (("agrees", "fails", "fails"), "keras-jax+jax"),
    (("open", "fails", "agrees"), "keras+jax"), (("agrees", "open", "agrees"), "keras+jax")])
def test_the_pair_to_look_into_is_one_that_fails_and_parts_in_one_thing_alone(tmp_path, answers, pair):
    pairs = [pair | {"answer": answer} for pair, answer in zip(MADE["pairs"], answers, strict=True)]
    assert parted_in(left_in(tmp_path / "out", pairs=pairs)) == f"pairs/{pair}"
    assert parted_in(tmp_path / "nothing") == "pairs/keras+jax"
