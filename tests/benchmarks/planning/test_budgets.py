"""Budgets that serving shares, or whose tokens are repeated: their optima are optima, and move where they should."""

import json
import math

import pytest

from twinscale.benchmarks.planning.budgets import Budget, asked, best, sentence, work_under, worth
from twinscale.benchmarks.planning.laws import LAWS
from twinscale.benchmarks.planning.plan import plan
from twinscale.common.errors import BadInput

LAW = LAWS["besiroglu2024"]
C = 1e22


@pytest.mark.parametrize("budget", [Budget(), Budget(2e12), Budget(0, 2e9), Budget(1e11, 2e9)])
def test_no_neighbour_of_the_same_cost_is_better(budget):
    size, tokens = best(LAW, C, budget)
    assert 6 * size * tokens + 2 * size * budget.served == pytest.approx(C)

    def loss(other):
        return LAW.loss(other, worth((C / other - 2 * budget.served) / 6, budget.unique))
    assert all(loss(size * factor) > loss(size) for factor in (0.5, 0.99, 1.01))


def test_nothing_served_and_endless_data_are_the_plain_optimum():
    assert best(LAW, C, Budget()) == pytest.approx(LAW.best(C), rel=1e-5)
    assert best(LAW, C, Budget(0, 1e20)) == pytest.approx(LAW.best(C), rel=1e-5)
    assert work_under(LAW, C, Budget())["budget"]["over_training"] == pytest.approx(1, rel=1e-4)


def test_served_tokens_move_the_optimum_to_smaller_models_that_are_trained_longer():
    sizes = [best(LAW, C, Budget(served))[0] for served in (0.0, 1e11, 1e12, 1e13)]
    assert sizes == sorted(sizes, reverse=True)
    assert work_under(LAW, C, Budget(1e12))["budget"]["over_training"] > 1.1


def test_few_unique_tokens_move_it_to_larger_models_and_cost_loss():
    plain, few = work_under(LAW, C, Budget()), work_under(LAW, C, Budget(0, 2e9))
    assert few["parameters"] > plain["parameters"] and few["budget"]["loss"] > plain["budget"]["loss"]
    assert few["budget"]["epochs"] > 1 and "literature: Muennighoff" in sentence(few["budget"], 1.0)


def test_repeated_tokens_are_worth_less_and_less():
    assert worth(5e8, 1e9) == 5e8 and worth(1e9, 1e9) == 1e9
    assert 1e9 < worth(2e9, 1e9) < 2e9 and worth(1e15, 1e9) == pytest.approx(16.39e9)
    assert worth(4e9, 1e9) / 4e9 > 0.9  # the paper: up to 4 epochs are almost as good as new data


@pytest.mark.parametrize("serve, unique, alone, words", [
    (-1.0, None, True, "--serve -1: a number above 0"), (None, math.nan, True, "--unique-tokens nan"),
    (1e9, None, False, "give --flops and --law")])
def test_what_is_no_budget_is_said(serve, unique, alone, words):
    with pytest.raises(BadInput, match=words):
        asked(serve, unique, alone)
    assert asked(None, None, False) is None


def test_a_plan_takes_the_training_for_its_days_and_says_the_budget(tmp_path, capsys):
    plan(None, topologies=["v5e-256"], flops=C, law="besiroglu2024", serve=1e12, out=tmp_path / "plan")
    work = json.loads((tmp_path / "plan" / "plan.json").read_text())["work"]
    assert work["flops"] + 2 * work["parameters"] * 1e12 == pytest.approx(C) and work["flops"] < C
    assert "1e+12 served tokens" in capsys.readouterr().out
