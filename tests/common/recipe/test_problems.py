"""What is wrong with a recipe is said in lines that a person can act on, and that are safe to print."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import MOST_AFTER, load
from twinscale.common.recipe.problems import MOST_LINES, brief, hostile, refuse


def test_many_problems_are_counted_and_those_that_are_not_shown_are_not_put_into_words():
    made = []

    def problems():
        for number in range(10 * MOST_LINES):
            made.append(number)
            yield f"line {number}"

    with pytest.raises(BadInput) as caught:
        refuse(problems(), 10 * MOST_LINES)
    lines = str(caught.value).splitlines()
    assert len(lines) == MOST_LINES + 1 and lines[-1] == f"... and {9 * MOST_LINES} more" and len(made) == MOST_LINES
    refuse([])


@pytest.mark.parametrize("value, said", [
    ({"a": {"b": "x\x1b[2J"}}, "here: a.b = \"x\\u001b[2J\": holds a control character"),
    ({"a": [1 << 70]}, "a[0]: an integer of 71 bits"),
    ({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}, "a.a.a...: nested too deeply")])
def test_what_no_recipe_may_hold_is_found_under_any_key(value, said):
    [line] = hostile(value, "here")
    assert line.startswith("here: a") and said in line and line.isprintable(), line


def test_a_value_is_short_and_safe_whatever_it_is():
    for value in ("x" * 10_000, list(range(1000)), 10 ** 5000, {"a": 1}, "\u202e\x07", float("nan")):
        said = brief(value)
        assert said and len(said) <= 80 and said.isprintable()


def test_a_chain_of_files_is_read_as_deep_as_it_may_be_and_no_deeper(tmp_path):
    """Whatever depth Python itself would stand."""
    for i in range(MOST_AFTER + 1):
        (tmp_path / f"{i}.toml").write_text(f'extends = ["{i + 1}.toml"]\n')
    (tmp_path / f"{MOST_AFTER}.toml").write_text('name = "deep"\ndata.source = "digits"\nmodel.family = "mlp"\n')
    assert load(tmp_path / "1.toml").name == "deep"
    with pytest.raises(BadInput, match=rf"0\.toml: extends a file .* more than {MOST_AFTER} deep"):
        load(tmp_path / "0.toml")
