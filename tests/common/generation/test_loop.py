"""Tokens one after another, from a sampler that counts: what it is asked, where rows end, and what does not fit."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.generation.loop import AHEAD, BURST, LEAST, Asked, Coming, Sampler, bucket, check_room, generate
from twinscale.common.generation.sample import Drawing

CLASSES = 11
GREEDY = Drawing(greedy=True)


def after(ids):
    """Logits (B, V) of a decoder whose likeliest next token is the last one and one."""
    return 9.0 * (np.arange(CLASSES) == (np.asarray(ids)[:, None] + 1) % CLASSES)


@pytest.fixture
def counting():
    """(the sampler, what it was asked). Its cache is the positions that it has seen, of each row."""
    asked = []

    def start(ids, lengths, slots):
        asked.append(("start", ids.shape, lengths.tolist(), slots))
        return after(ids[np.arange(len(ids)), lengths - 1]), lengths.copy()

    def step(ids, positions, cache):
        assert (positions == cache).all()  # what comes next is at the first position that the cache has not seen
        asked.append(("step", ids.tolist(), positions.tolist()))
        return after(ids), cache + 1

    return Sampler(start, step), asked


@pytest.fixture
def ahead(counting):
    """A counting sampler that goes on by itself, and guesses a 0 wherever 5 comes next."""
    def several(ids, positions, cache, count, drawing, uniforms):
        assert uniforms.shape == (AHEAD, len(ids)) and 1 <= count <= AHEAD
        tokens, logits = [], []
        cache = np.minimum(cache, positions)  # what was computed beyond a wrong token is written anew
        for i in range(count):
            found, cache = counting[0].step(ids, positions + i, cache)
            ids = found.argmax(-1)
            ids[ids == 5] = 0
            tokens.append(ids)
            logits.append(found)
        calls.append(count)
        return np.array(tokens), np.array(logits), cache

    calls = []
    return Sampler(counting[0].start, counting[0].step, several), calls


def prompts(*rows):
    return [np.array(row, np.int32) for row in rows]


def test_tokens_follow_prompts_of_different_lengths_with_a_cache_and_without(counting):
    sampler, asked = counting
    rows = generate(sampler, prompts([1], [4, 5, 6]), Asked(4, 16, GREEDY))
    assert [row.ids for row in rows] == [[2, 3, 4, 5], [7, 8, 9, 10]]
    assert asked[:2] == [("start", (2, 8), [1, 3], 8), ("step", [2, 7], [1, 3])] and len(asked) == 4
    again = generate(sampler, prompts([1], [4, 5, 6]), Asked(4, 16, GREEDY, cached=False))
    assert [row.ids for row in again] == [row.ids for row in rows]
    assert [call[2] for call in asked[4:]] == [[1, 3], [2, 4], [3, 5], [4, 6]]


def test_a_row_that_has_ended_gets_no_more_and_all_that_have_end_the_work(counting):
    sampler, asked = counting
    told = []
    rows = generate(sampler, prompts([1], [4, 5]), Asked(9, 16, GREEDY, done=lambda ids: "stop" * (ids[-1] == 7)),
                    lambda rows: told.append([len(row.ids) for row in rows]))
    assert [(row.ids, row.ended) for row in rows] == [([2, 3, 4, 5, 6, 7], "stop"), ([6, 7], "stop")]
    assert told == [[1, 1], [2, 2], [3, 2], [4, 2], [5, 2], [6, 2]] and len(asked) == 6


@pytest.mark.parametrize("drawing", [GREEDY, Drawing(temperature=0.2, seed=3)], ids=["greedy", "drawn"])
def test_a_sampler_that_goes_on_by_itself_changes_no_token_even_where_it_guesses_wrong(counting, ahead, drawing):
    told = []
    asked = Asked(40, 64, drawing, done=lambda ids: "stop" * (len(ids) > 30 and ids[-1] == 9))
    rows = generate(ahead[0], prompts([1], [4, 5, 6]), asked, lambda rows: told.append(len(rows[0].ids)))
    assert [row.ids for row in rows] == [row.ids for row in generate(counting[0], prompts([1], [4, 5, 6]), asked)]
    assert told == [*range(1, len(told) + 1)] and 5 in rows[0].ids  # each token is told of


def test_calls_ask_for_more_while_they_are_quick(ahead):
    generate(ahead[0], prompts([5]), Asked(4, 16, GREEDY))
    assert ahead[1] == [1, 2]
    coming = Coming()
    for seconds, count in [(0.0, 2), (0.0, 4), (0.7 * BURST, 4), (2 * BURST, 2), (9.0, 1), (9.0, 1)]:
        coming.pace(seconds)
        assert coming.count == count
    coming.count = AHEAD
    coming.pace(0.0)
    assert coming.count == AHEAD


def test_a_row_draws_what_it_draws_alone(counting):
    flat = Sampler(lambda ids, lengths, slots: (np.zeros((len(ids), CLASSES)), None),
                   lambda ids, positions, cache: (np.zeros((len(ids), CLASSES)), None))
    both = generate(flat, prompts([1], [2, 3]), Asked(12, 16))
    alone = generate(flat, prompts([1]), Asked(12, 16))
    assert both[0].ids == alone[0].ids != both[1].ids and len(set(alone[0].ids)) > 3


def test_forced_tokens_are_taken_whatever_is_likely(counting):
    rows = generate(counting[0], prompts([1], [4]), Asked(3, 16, GREEDY, forced=[[9, 9, 2], [5]]))
    assert [row.ids for row in rows] == [[9, 9, 2], [5]]
    assert rows[0].choices[0].logprob == pytest.approx(-9, abs=0.01)
    assert rows[1].choices[0].logprob == pytest.approx(0, abs=0.01) and rows[1].choices[0].margin == np.inf


def test_shapes_are_few():
    """What is compiled holds for all lengths up to the next power of two, and for no more positions than there are."""
    assert [bucket(n, 100) for n in (1, LEAST, LEAST + 1, 16, 17, 65, 100)] == [8, 8, 16, 16, 32, 100, 100]
    assert bucket(3, 4) == 4


@pytest.mark.parametrize(("rows", "tokens", "said"), [
    ([[1], []], 1, "--prompt: number 2 is empty"), ([[1] * 8], 1, "--prompt: number 1 has 8 tokens, .* 8 .*shorten"),
    ([[1], [1] * 6], 3, "--tokens 3: .* 6 tokens, .* take --tokens 2 at most")])
def test_what_does_not_fit_is_said_with_what_would(rows, tokens, said):
    with pytest.raises(BadInput, match=said):
        check_room(prompts(*rows), tokens, 8)


def test_the_last_position_is_used(counting):
    rows = generate(counting[0], prompts([1] * 6), Asked(2, 8, GREEDY))
    assert rows[0].ids == [2, 3] and rows[0].ended == "tokens"
