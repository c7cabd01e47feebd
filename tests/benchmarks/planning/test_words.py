"""A plan as a table for people."""

from tests.benchmarks.planning.test_plan import prices
from twinscale.benchmarks.planning.plan import plan
from twinscale.benchmarks.planning.words import CELLS, short


def test_what_a_price_file_says_is_shown_escaped(tmp_path, capsys):
    head = 'date = 2026-01-31\ncurrency = "\\u001b[2JEUR"\nsource = "a\\u202eb"\n[chips]\n'
    path = prices(tmp_path, 'v5e = {price = 1.5, per = "chip"}', head)
    plan(None, topologies=("v5e-256",), flops=1e21, prices=path)
    said = capsys.readouterr().out
    assert "\\x1b[2JEUR" in said and "a\\u202eb" in said and said.replace("\n", "").isprintable()


def test_a_figure_is_a_bound_on_the_side_that_it_has_and_what_was_stated_stands_behind_it():
    """Below the ceiling a training takes longer, and by a deadline fits less."""
    def days(inside):
        return CELLS["days"]({"days": {"ceiling": 2.0, "inside": inside}}, None)

    assert [days(inside) for inside in (None, [4.0, 8.0], [4.0, 4.0])] == [
        "at least 2", "at least 2; 4 to 8", "at least 2; 4"]
    tokens = {"deadline": {"tokens": {"ceiling": 24e9, "inside": [6e9, 12e9]}}}
    assert CELLS["by the deadline, tokens"](tokens, None) == "at most 24B; 6B to 12B"
    assert CELLS["days"]({}, None) == CELLS["by the deadline, tokens"]({}, None) == CELLS["cost"]({}, None) == ""


def test_a_count_has_three_digits_and_the_unit_below_it():
    assert [short(x) for x in (999, 1e3, 1.234e6, 999e6, 1e9, 2.5e13)] == ["999", "1k", "1.23M", "999M", "1B", "25T"]
