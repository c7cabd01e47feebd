"""A run's decoder writes text: what is given, what is held to the trainer, and what is no decoder's run."""

import json

import pytest

from twinscale.common.errors import DID_IT, NO, BadInput
from twinscale.common.generation import run as generation
from twinscale.common.generation.run import Wanted, write
from twinscale.common.generation.sample import Drawing

GREEDY = Drawing(greedy=True)


def test_the_text_is_said_as_it_comes_and_given_with_its_ids(state, backend):
    said = []
    found = write(*backend, state(), Wanted(("?", "go"), 7, drawing=GREEDY), say=said.append)
    assert [row["text"] for row in found["rows"]] == ["once up", "nce upo"]
    assert "".join(said) == "?once up\n\ngonce upo\n" and len(said) > 7
    assert bytes(found["rows"][0]["ids"]) == b"once up" and found["rows"][0]["ended"] == "tokens"
    assert (found["backend"], found["step"], found["precision"], found["tokens"]) == ("jax", 12, "float32", 14)
    assert json.loads(json.dumps(found, allow_nan=False)) == found | {"rows": found["rows"]}
    assert "14 tokens" in generation.lines(found)[0] and generation.exit_code(found) == DID_IT


def test_as_many_tokens_as_fit_unless_fewer_are_asked_for(state, backend):
    assert len(write(*backend, state(), Wanted(("12345",), drawing=GREEDY))["rows"][0]["ids"]) == 11


def test_a_stop_string_ends_a_row_before_it(state, backend):
    row = write(*backend, state(), Wanted(("?",), 12, ("upo",), GREEDY))["rows"][0]
    assert (row["text"], row["ended"], bytes(row["ids"])) == ("once ", "stop", b"once upo")


def test_a_cache_that_is_off_is_seen_in_whichever_way_was_asked_for(state, backend):
    room, path = backend[0], state()
    room.off = 0.5
    for cached, check, holds in ((True, False, [False]), (False, False, [True]), (False, True, [True, False])):
        found = write(*backend, path, Wanted(("?",), 5, drawing=GREEDY, cached=cached, check=check))
        assert [held["holds"] for held in found["trainer"]] == holds
        assert generation.exit_code(found) == (DID_IT if all(holds) else NO)
        assert [held["cached"] for held in found["trainer"]] == [cached, not cached][:len(holds)]
    assert "does not hold" in generation.lines(found)[-1]


@pytest.mark.parametrize(("precision", "dtype"), [(None, "float32"), ("bfloat16", "float32"), ("float64", "float64")])
def test_weights_are_those_that_the_precision_keeps(state, backend, precision, dtype):
    """A twin dithers the last place of what they are in."""
    found = write(*backend, state(), Wanted(("?",), 2), precision)
    assert found["precision"] == (precision or "float32") and backend[0].dtypes == {dtype}


@pytest.mark.parametrize(("wanted", "said"), [
    (Wanted(("",)), "number 1 is empty"), (Wanted(("a" * 16,)), "has 16 tokens, but the model reads 16"),
    (Wanted(("a" * 99,)), "has 99 tokens"), (Wanted(("a",), 16), "take --tokens 15 at most"),
    (Wanted(("a\udcff",)), "number 1 .*no UTF-8")])
def test_prompts_that_do_not_fit_are_refused(state, backend, wanted, said):
    with pytest.raises(BadInput, match=f"^--(prompt|tokens).*{said}"):
        write(*backend, state(), wanted)


def test_a_run_of_another_family_is_refused(state, backend):
    with pytest.raises(BadInput, match="model.family = \"mlp\": only decoders"):
        write(*backend, state(family="mlp"), Wanted(("a",)))


def test_a_state_without_its_tokenizer_is_refused(state, backend):
    with pytest.raises(BadInput, match="keeps nothing of its data.*convert the run again"):
        write(*backend, state(manifest={}), Wanted(("a",)))


def test_what_is_said_is_escaped_but_for_lines_and_tabs(capsys):
    generation.streamed("a\tb\n\x1b[31m\x00")
    assert capsys.readouterr().out == "a\tb\n\\x1b[31m\\x00"
