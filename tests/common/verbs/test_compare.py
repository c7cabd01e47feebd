"""Comparing: the exit code is the verdict."""

import pytest

from twinscale.common import cli


@pytest.mark.parametrize("verdict, code", [(0, 0), (1, 1), (3, 3), (None, 0)])
def test_compares_exit_code_is_the_verdict(work, room, verdict, code):
    calls = room("benchmarks.compare", verdict)
    assert cli.main(["compare", "r.toml", "seed=5", "--out", "o", "--plant", "jax:no_bias_correction"]) == code
    assert calls[0][1].seed == 5 and calls[0][2]["plant"] == "jax:no_bias_correction" and not calls[0][2]["overwrite"]


def test_both_begin_with_the_weights_of_a_directory_which_is_in_the_words_that_repeat_it(work, saved, room, lines):
    calls = room("benchmarks.compare", 0)
    assert cli.main(["compare", "e.toml", "--from", "bert", "--out", "o"]) == 0
    (_, recipe, options, _), = calls
    assert recipe.model.layers == 1 and options["asked"] == ("e.toml", f'model.weights="{saved}"')
    assert "21 of 25 tensors" in lines()[1][0]


def test_a_run_is_nothing_to_begin_a_comparison_with(work, room, lines):
    calls = room("benchmarks.compare", 0)
    (work / "runs").mkdir()
    assert cli.main(["compare", "r.toml", "--from", "runs", "--out", "o"]) == 2
    assert not calls and "a run or its state goes on in `twinscale train --from`" in lines()[1][0]


@pytest.mark.parametrize(("words", "module", "columns"), [
    ((), "compare", ()), (("--columns", "jax,keras"), "compare", ()),
    (("--columns", "jax, keras-jax"), "compare", ("keras-jax", "jax")),
    (("--columns", "jax,keras,keras-jax"), "columns", ("keras", "keras-jax", "jax"))])
def test_two_columns_are_a_comparison_of_two_and_three_have_a_verdict_of_their_own(work, room, words, module, columns):
    calls = room(f"benchmarks.{module}", 0)
    assert cli.main(["compare", "r.toml", "--out", "o", *words]) == 0
    assert [options["columns"] for *_, options, _ in calls] == [columns]


@pytest.mark.parametrize(("text", "said"), [
    ("keras", "nothing to be compared with"), ("keras,jax,keras", "keras is there twice"), ("keras,tf", "'tf'")])
def test_columns_that_are_none_are_refused_in_a_line_before_anything_is_there(work, room, lines, text, said):
    calls = room("benchmarks.compare", 0)
    assert cli.main(["compare", "r.toml", "--columns", text, "--out", "o"]) == 2
    _, (line,) = lines()
    assert not calls and not (work / "o").exists()
    assert line.startswith(f"twinscale: --columns {text}: ") and said in line and "keras, keras-jax, jax" in line


def test_where_three_columns_part_the_pair_to_look_into_is_named_and_where_it_was_placed_the_report(work, room, lines):
    room("benchmarks.columns", 1)
    (work / "o").mkdir()
    (work / "o" / "report.html").touch()
    assert cli.main(["compare", "r.toml", "--out", "o", "--columns", "keras,keras-jax,jax"]) == 1
    assert lines()[1][-1] == "twinscale: next: twinscale bisect o/pairs/keras+jax"
    assert cli.main(["compare", "r.toml", "--out", "o", "--columns", "keras,keras-jax,jax", "--place"]) == 1
    assert "the report is " in lines()[1][-1]
