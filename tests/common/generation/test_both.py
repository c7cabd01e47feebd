"""Two samplers side by side: which tokens are the same, and whether a parting is explained."""

import json
from types import SimpleNamespace

import pytest

from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, BadInput, TwinscaleError
from twinscale.common.generation import both
from twinscale.common.generation.run import Wanted
from twinscale.common.generation.sample import Drawing


def side(*rows, backend="jax", moves=1e-6, holds=True, prompt="p"):
    """What a sampler printed of rows [(ids, margins)]."""
    return {"run": f"runs/{backend}", "backend": backend, "moves": moves, "trainer": [{"holds": holds}],
            "rows": [{"prompt": prompt, "ids": ids, "margins": margins} for ids, margins in rows]}


SAME = ([5, 6, 7], [0.5, 0.5, 0.5])


def test_equal_tokens_are_counted():
    found = both.beside(side(SAME, SAME, backend="keras"), side(SAME, SAME))
    assert (found["equal"], found["of"], found["partings"], both.exit_code(found)) == (6, 6, [], DID_IT)
    assert both.lines(found) == ["6 of 6 tokens are the same: keras on runs/keras, jax on runs/jax"]


@pytest.mark.parametrize(("margins", "near", "code"), [
    ((1e-7, 0.5), True, INCONCLUSIVE), ((0.5, 1e-7), True, INCONCLUSIVE), ((0.5, 0.4), False, NO),
    ((None, None), False, NO)])
def test_a_row_counts_up_to_its_parting_which_a_near_tie_on_either_side_explains(margins, near, code):
    one, other = (([5, token, 7], [0.5, margin, 0.5]) for token, margin in zip((6, 8), margins, strict=True))
    found = both.beside(side(SAME, one, backend="keras"), side(SAME, other, moves=1e-9))
    assert (found["equal"], found["of"]) == (4, 6) and both.exit_code(found) == code
    assert found["partings"] == [{"row": 2, "token": 2, "margins": list(margins), "near_tie": near}]
    assert ("is a near tie, within" if near else "no near tie") in both.lines(found)[1]


def test_a_row_that_ends_earlier_parts_there():
    found = both.beside(side(SAME), side(([5, 6], [0.5, 0.5])))
    assert (found["equal"], found["of"], both.exit_code(found)) == (2, 3, NO)
    assert found["partings"] == [{"row": 1, "token": 3, "margins": [0.5, None], "near_tie": False}]


def test_a_sampler_that_is_not_its_trainer_is_no_agreement():
    assert both.exit_code(both.beside(side(SAME), side(SAME, holds=False))) == NO


def test_other_prompts_are_not_compared():
    with pytest.raises(TwinscaleError, match="other prompts"):
        both.beside(side(SAME), side(SAME, prompt="q"))


def test_what_is_wanted_is_what_the_command_line_reads():
    """Words that begin with a dash among them."""
    import typer

    from twinscale.common.cli import app

    wanted = Wanted(("--both", "b"), 7, ("-x",), Drawing(True, 0.5, 3, 0.9, 11), False, True)
    words = both.words_of(wanted, "float64")
    command = typer.main.get_command(app).commands["generate"]
    read = command.make_context("generate", ["runs/a", *words]).params
    assert (tuple(read["prompt"]), read["tokens"], tuple(read["stop"]), read["no_cache"], read["check"],
            read["precision"]) == (("--both", "b"), 7, ("-x",), True, True, "float64")
    assert Drawing(*(read[key] for key in ("greedy", "temperature", "top_k", "top_p", "seed"))) == wanted.drawing
    assert not read["both"]


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """answered(exit code, stdout, stderr): what `asked_of` makes of a process that ends so."""
    def ask(code, out="", err=""):
        monkeypatch.setattr(both.process, "run", lambda command, **options: SimpleNamespace(
            returncode=code, stdout=out, stderr=err))
        return both.asked_of(tmp_path, "keras", ["--prompt", "a"])

    return ask


def test_a_process_answers_also_where_its_answer_is_no(answered):
    assert answered(DID_IT, json.dumps({"a": 1})) == answered(NO, json.dumps({"a": 1})) == {"a": 1}


def test_a_process_without_an_answer_ends_with_its_last_line(answered):
    with pytest.raises(BadInput, match="keras: --prompt: too long"):
        answered(2, err="a warning\ntwinscale: --prompt: too long\n\n")
    with pytest.raises(TwinscaleError, match="keras: ended without a word"):
        answered(NO)
