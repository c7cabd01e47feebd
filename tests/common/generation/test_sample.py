"""Which token is taken: ties and cuts, what a temperature does, shared bits, and margins that are true."""

import math

import numpy as np
import pytest

from twinscale.common.errors import BadInput, TwinscaleError
from twinscale.common.generation.sample import Drawing, choose, cut, log_softmax, uniforms

SHARES = np.array([0.1, 0.3, 0.2, 0.3, 0.1])
LOGITS = np.log(SHARES)


def tokens(drawing, logits=LOGITS):
    """Those that an even net of 1000 numbers picks, and how many each."""
    picked, counts = np.unique([choose(logits, drawing, u).token for u in (np.arange(1000) + 0.5) / 1000],
                               return_counts=True)
    return dict(zip(picked.tolist(), counts.tolist(), strict=True))


def test_numbers_pick_tokens_in_their_shares():
    assert tokens(Drawing()) == pytest.approx(dict(enumerate(SHARES * 1000)), abs=1)


def test_ties_of_the_likeliest_and_of_a_cut_go_to_the_lower_id():
    assert choose(LOGITS, Drawing(greedy=True), 0.9).token == choose(LOGITS, Drawing(temperature=0), 0.9).token == 1
    assert set(tokens(Drawing(top_k=1))) == {1} and set(tokens(Drawing(top_k=4))) == {0, 1, 2, 3}
    assert set(tokens(Drawing(top_p=0.29))) == {1} and set(tokens(Drawing(top_p=0.85))) == {0, 1, 2, 3}
    assert cut(LOGITS, Drawing(top_k=2))[1] > 0 == cut(LOGITS, Drawing(top_k=1))[1]


def test_top_p_leaves_the_fewest_that_reach_it_of_those_that_top_k_leaves():
    assert set(tokens(Drawing(top_p=0.61))) == {1, 2, 3}
    assert set(tokens(Drawing(top_k=2, top_p=0.5))) == {1}  # which are 0.5 each
    assert tokens(Drawing(top_k=9, top_p=1)) == tokens(Drawing())


def test_a_temperature_divides_the_logits_and_leaves_the_log_probability_the_models():
    assert tokens(Drawing(temperature=0.5)) == pytest.approx(dict(enumerate(SHARES**2 / sum(SHARES**2) * 1000)), abs=1)
    assert set(tokens(Drawing(temperature=1e-3), LOGITS + [0, 0.1, 0, 0, 0])) == {1}
    assert choose(LOGITS, Drawing(temperature=7, top_k=2), 0.9).logprob == pytest.approx(math.log(0.3))


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e300])
@pytest.mark.parametrize("cuts", [{}, {"top_k": 2}, {"top_p": 0.5}])
def test_temperatures_at_the_ends_of_floats_draw_a_token(temperature, cuts):
    choice = choose(LOGITS * 40, Drawing(temperature=temperature, **cuts), 0.2)
    assert choice.token in ((1, 3) if temperature < 1 else range(5)) and choice.margin >= 0


def test_bits_are_those_of_a_seed_a_step_and_a_row():
    drawn = np.stack([uniforms(seed, step, 4) for seed in (1, 2, 2**64 - 1) for step in (0, 1)])
    assert drawn.shape == (6, 4) and len(np.unique(drawn)) == 24 and drawn.min() >= 0 and drawn.max() < 1
    assert (uniforms(2, 1, 2) == drawn[3, :2]).all()
    many = uniforms(0, 0, 100_000)  # whose mean is off by 1 / sqrt(12 x 100,000) = 0.0009 in the root mean square
    assert abs(many.mean() - 0.5) < 0.005 and len(np.unique(many)) == len(many)


@pytest.mark.parametrize("drawing", [Drawing(greedy=True), Drawing(), Drawing(temperature=0.6), Drawing(top_k=6),
                                     Drawing(top_p=0.7), Drawing(temperature=1.7, top_k=9, top_p=0.8)])
def test_no_token_changes_where_no_logit_moves_further_than_its_margin(drawing):
    """And where they do move further, some do: a margin of nothing would be none."""
    rng, beyond = np.random.default_rng(4), 0
    for _ in range(300):
        logits, uniform, signs = rng.normal(size=12), rng.random(), rng.choice([-1, 1], 12)
        choice = choose(logits, drawing, uniform)
        assert choose(logits + 0.999 * choice.margin * signs, drawing, uniform).token == choice.token
        beyond += choose(logits + 3 * choice.margin * signs, drawing, uniform).token != choice.token
    assert beyond >= 20


def test_log_probabilities_sum_to_one_far_from_zero():
    wide = np.array([[1e4, 1e4 - 1, -1e4], [0, 0, 0]])
    assert np.exp(log_softmax(wide)).sum(-1) == pytest.approx([1, 1]) and log_softmax(wide)[0, 2] == pytest.approx(
        -2e4 - math.log1p(math.exp(-1)))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_pick_nothing(bad):
    with pytest.raises(TwinscaleError, match="not finite"):
        choose(np.array([0, bad]), Drawing(), 0.5)


@pytest.mark.parametrize("values", [{"temperature": -0.1}, {"temperature": math.nan}, {"top_k": -1}, {"top_p": 0},
                                    {"top_p": 1.01}, {"seed": -1}, {"seed": 2**64}])
def test_values_that_mean_nothing_are_refused_by_their_options(values):
    with pytest.raises(BadInput, match=f"^--{next(iter(values)).replace('_', '-')} "):
        Drawing(**values)
