"""Which token comes next, and how far logits have to move for another one."""

import math

import numpy as np
import pytest

from twinscale.common.errors import BadInput, TwinscaleError
from twinscale.common.generation.sample import Drawing, apart, choose, cut, log_odds, log_softmax, uniforms


def test_uniforms_are_addressed_and_even():
    some, more = uniforms(7, 3, 2), uniforms(7, 3, 4)
    assert some.tolist() == more[:2].tolist() and uniforms(7, 4, 2).tolist() != some.tolist()
    drawn = uniforms(0, 0, 20_000)
    assert drawn.min() >= 0 and drawn.max() < 1 and abs(drawn.mean() - 0.5) < 5 / math.sqrt(12 * 20_000)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    drawn = [choose(logits, Drawing(), u).token for u in uniforms(1, 0, 4000)]
    assert np.abs(np.bincount(drawn, minlength=4) / 4000 - [0.1, 0.2, 0.3, 0.4]).max() < 0.03
    assert choose(logits, Drawing(temperature=0.5), 0.5).logprob == pytest.approx(logits[3])  # of the model


def test_cuts_take_the_likeliest_and_ties_go_to_the_lower_id():
    logits = np.array([1.0, 3.0, 3.0, 3.0, 0.0])
    assert cut(logits, Drawing(top_k=2))[0].tolist() == [1, 2]
    assert cut(logits, Drawing(top_p=0.5))[0].tolist() == [1, 2]
    assert cut(logits, Drawing(top_p=1e-9))[0].tolist() == [1]
    assert choose(logits, Drawing(greedy=True), 0.0) == (1, pytest.approx(log_softmax(logits)[1]), 0.0)


@pytest.mark.parametrize("drawing", [Drawing(greedy=True), Drawing(), Drawing(temperature=0.6, top_k=5),
                                     Drawing(top_p=0.7), Drawing(temperature=1.5, top_k=9, top_p=0.8)])
def test_no_move_of_logits_below_the_margin_changes_the_token(drawing):
    rng, flipped = np.random.default_rng(0), 0
    for _ in range(300):
        logits, u = rng.normal(size=12) * 2, rng.random()
        choice = choose(logits, drawing, u)
        moves = rng.choice([-1.0, 1.0], (20, 12))
        assert {choose(logits + 0.999 * choice.margin * move, drawing, u).token for move in moves} == {choice.token}
        flipped += any(choose(logits + 3 * choice.margin * move, drawing, u).token != choice.token for move in moves)
    assert flipped > 50  # and the margin is no smaller than it has to be by far


def test_log_odds():
    assert log_odds(0.0) == -math.inf and log_odds(1.0) == math.inf and apart(0.5, 0.5) == 0
    assert log_odds(0.75) == pytest.approx(math.log(3))


def test_what_is_no_number_is_refused():
    with pytest.raises(TwinscaleError, match="not finite"):
        choose(np.array([0.0, math.nan]), Drawing(), 0.5)
    with pytest.raises(BadInput, match="--top-p"):
        Drawing(top_p=1.5)
