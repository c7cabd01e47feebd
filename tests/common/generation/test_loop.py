"""Tokens one after another, from a sampler that counts up."""

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.generation.loop import Asked, Sampler, bucket, check_room, generate, taken
from twinscale.common.generation.sample import Drawing

CLASSES = 50


def counting(calls):
    """A sampler whose likeliest token is one more than the last; its cache is what it was given."""
    def after(ids):
        logits = np.zeros((len(ids), CLASSES))
        logits[np.arange(len(ids)), (ids + 1) % CLASSES] = 9
        return logits

    def start(ids, lengths, slots):
        calls.append(("start", ids.shape[1], slots))
        return after(ids[np.arange(len(ids)), lengths - 1]), slots

    def step(ids, positions, cache):
        calls.append(("step", positions.tolist(), cache))
        return after(ids), cache

    return Sampler(start, step)


PROMPTS = [np.array([3, 4], np.int32), np.array([10, 11, 12], np.int32)]


@pytest.mark.parametrize("cached", [True, False])
def test_rows_go_on_each_from_its_own_end(cached):
    calls = []
    rows = generate(counting(calls), PROMPTS, Asked(3, 16, Drawing(greedy=True), cached))
    assert [row.ids for row in rows] == [[5, 6, 7], [13, 14, 15]] and {row.ended for row in rows} == {"tokens"}
    if cached:
        assert calls == [("start", 8, 8), ("step", [2, 3], 8), ("step", [3, 4], 8)]
    else:
        assert calls == [("start", 8, 8)] * 3


def test_a_row_that_has_ended_gets_no_more_and_the_last_one_ends_all():
    calls = []
    rows = generate(counting(calls), PROMPTS, Asked(9, 16, Drawing(greedy=True), done=lambda ids: "stop" * (ids[-1] in (
        6, 14))))
    assert [row.ids for row in rows] == [[5, 6], [13, 14]] and len(calls) == 2


def test_forced_tokens_are_followed():
    rows = generate(counting([]), PROMPTS, Asked(2, 16, forced=[[7, 8], [1]]))
    assert [row.ids for row in rows] == [[7, 8], [1]] and rows[0].choices[1].logprob > rows[0].choices[0].logprob + 8


def test_buckets_are_powers_of_two_up_to_the_models_length():
    assert [bucket(n, 100) for n in (1, 8, 9, 64, 65, 100)] == [8, 8, 16, 64, 100, 100]


@pytest.mark.parametrize(("prompts", "tokens", "what"), [
    ([[1], []], 1, "number 2 is empty"), ([[0] * 16], 1, "has 16 tokens"), ([[0] * 10], 7, "take --tokens 6 at most")])
def test_what_does_not_fit_is_refused(prompts, tokens, what):
    with pytest.raises(BadInput, match=what):
        check_room(prompts, tokens, 16)
    assert taken(np.zeros((0, 3)), [], Asked(1, 4), 0).shape == (0,)
