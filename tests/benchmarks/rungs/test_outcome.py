"""The outcome rung: a paired TOST that agrees with published figures, with SciPy and with simulation, and its words."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from twinscale.benchmarks.report import terminal
from twinscale.benchmarks.rungs import outcome
from twinscale.benchmarks.rungs.outcome import (
    collect_outcome,
    equivalence,
    margins_of,
    outcome_lines,
    outcome_path,
    outcome_rung,
    parse_seeds,
    permuted,
    seeds_needed,
    seeds_of,
    sentence,
    tost_power,
)
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

# Hours of sleep gained under one drug less the other, ten patients (Student 1908, Biometrika 6, 1).
SLEEP = [-1.2, -2.4, -1.3, -1.3, 0.0, -1.0, -1.8, -0.8, -4.6, -1.4]
DIFFERENCES = st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=2, max_size=8)
RECIPE = Recipe.model_validate({"name": "digits", "seed": 3, "data": {"source": "digits"}, "model": {"family": "mlp"}})


def measured(keras, jax, metric="accuracy"):
    """The metrics of both backends from lists of a value a seed."""
    return {"keras": {seed: {metric: x} for seed, x in enumerate(keras)},
            "jax": {seed: {metric: x} for seed, x in enumerate(jax)}}


def test_hits_have_a_margin_where_they_are_counted():
    assert margins_of(RECIPE) == {"loss": 0.02, "accuracy": 0.01}
    assert margins_of(RECIPE.with_values(objective={"name": "squared-error"})) == {"loss": 0.02}


def test_f1_has_a_margin_where_it_is_asked_for():
    asked = RECIPE.with_values(train={"metrics": ["report", "entities"]},
                               compare={"margin": {"loss": 0.5, "entity_f1": 0.03}})
    assert margins_of(asked) == {"loss": 0.5, "accuracy": 0.01, "f1_macro": 0.01, "entity_f1": 0.03}
    found = outcome_rung(measured([0.8, 0.81, 0.8], [0.8, 0.81, 0.9], "entity_f1"), {"entity_f1": 0.03})
    assert not found["agrees"] and outcome_lines(found)[0].startswith("entity_f1: Keras - JAX = -0.033")


# ---- statistics

def test_students_sleep_data():
    found = equivalence(SLEEP, 0.5, alpha=0.025)
    assert found["interval"] == pytest.approx([-2.4598858, -0.7001142], abs=5e-8)  # as R's t.test prints it
    assert found["mean"] / (found["deviation"] / math.sqrt(10)) == pytest.approx(-4.0621, abs=5e-5)
    assert found["p_low"] == pytest.approx(stats.ttest_1samp(SLEEP, -0.5, alternative="greater").pvalue, rel=1e-9)
    assert found["p_high"] == pytest.approx(stats.ttest_1samp(SLEEP, 0.5, alternative="less").pvalue, rel=1e-9)
    assert found["answer"] == "different"


@given(DIFFERENCES, st.floats(1e-3, 2))
def test_the_answer_is_where_the_interval_lies(differences, margin):
    found = equivalence(differences, margin)
    low, high = found["interval"]
    assert low <= found["mean"] <= high
    assert (found["answer"] == "equivalent") == (-margin <= low and high <= margin)
    assert (found["answer"] == "different") == (high < -margin or low > margin)
    if not math.isclose(max(-low, high), margin, rel_tol=1e-9):
        assert (found["p"] < 0.05) == (found["answer"] == "equivalent")


@given(DIFFERENCES)
def test_a_margin_that_the_interval_crosses_never_gives_equivalence(differences):
    end = max(map(abs, equivalence(differences, 1.0)["interval"]))
    if end > 1e-9:
        assert equivalence(differences, end * (1 - 1e-9))["answer"] != "equivalent"
        assert equivalence(differences, end * (1 + 1e-9))["answer"] == "equivalent"


@given(DIFFERENCES, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter(differences, random):
    assert equivalence(random.sample(differences, len(differences)), 0.1) == equivalence(differences, 0.1)


@given(DIFFERENCES)
def test_swapped_backends_mirror_everything(differences):
    found, mirrored = equivalence(differences, 0.1), equivalence([-d for d in differences], 0.1)
    assert mirrored["mean"] == pytest.approx(-found["mean"], abs=1e-15)
    assert mirrored["interval"] == pytest.approx([-found["interval"][1], -found["interval"][0]], abs=1e-12)
    assert mirrored["p_low"] == pytest.approx(found["p_high"], abs=1e-9)
    assert mirrored["answer"] == found["answer"]


# PASS Sample Size Software, chapter 519 (paired t tests for equivalence): margin 19.2, deviation 25.4558, shift -4.
@pytest.mark.parametrize(("seeds", "power"), [(5, 0.10599), (15, 0.66629), (30, 0.93855), (50, 0.99410)])
def test_power_agrees_with_published_figures(seeds, power):
    assert tost_power(25.4558, seeds, 19.2, shift=-4) == pytest.approx(power, abs=5e-6)


@pytest.mark.parametrize(("deviation", "margin", "target", "seeds"), [(0.1, 0.05, 0.8, 36), (28.284, 20, 0.7, 16)])
def test_seeds_needed_agree_with_published_figures(deviation, margin, target, seeds):
    assert seeds_needed(deviation, margin, target=target) == seeds  # the same chapter


@pytest.mark.parametrize(("seeds", "deviation", "shift"), [(2, 0.2, 0.0), (4, 0.8, 0.0), (4, 0.4, 0.5), (9, 1.0, -0.3)])
def test_power_agrees_with_simulation(seeds, deviation, shift):
    """Within 4 standard deviations of a binomial share of 40,000 draws; SciPy judges, and we as it does."""
    power = tost_power(deviation, seeds, 1.0, shift=shift)
    share, draws = simulated(seeds, deviation, shift)
    assert abs(share - power) < 4 * math.sqrt(power * (1 - power) / draws)


@pytest.mark.parametrize(("seeds", "deviation"), [(2, 0.2), (4, 0.1), (4, 1.0), (10, 0.5)])
def test_a_difference_of_the_margin_passes_at_most_at_the_level(seeds, deviation):
    share, draws = simulated(seeds, deviation, 1.0)
    assert share < 0.05 + 4 * math.sqrt(0.05 * 0.95 / draws)
    assert tost_power(deviation, seeds, 1.0, shift=1.0) <= 0.05 + 1e-12


def test_skewed_differences_are_judged_by_permutations_too():
    """One outlier of 12 seeds, and all signs by hand: of four seeds no permutation test is below 1/16."""
    skewed = [0.001, 0.002, -0.001, 0.0, 0.001, -0.002, 0.003, 0.0, 0.001, -0.001, 0.002, 0.06]
    found = permuted(skewed, 0.05)
    assert not found["normal"] and found["answer"] == "equivalent" and found["p_permutation"] < 0.01
    assert "not normal; by permutations p = " in sentence("accuracy", found)
    few = permuted([0.0, 0.0, 0.0, 0.001], 0.05)
    assert equivalence([0.0, 0.0, 0.0, 0.001], 0.05)["answer"] == "equivalent"
    assert not few["normal"] and few["p_permutation"] == 1 / 16 and few["answer"] == "inconclusive"


def test_what_permutations_leave_open_is_said_as_it_is():
    """The interval lies inside, so neither the noise nor the difference is too large: there are too few seeds."""
    rung = outcome_rung(measured([0.5, 0.5, 0.5, 0.501], [0.5] * 4), {"accuracy": 0.05})
    assert (rung["agrees"], rung["conclusive"], terminal.answer(rung)) == (False, False, "open")
    [said] = outcome_lines(rung)
    assert "inside ±0.05: inconclusive" in said and "near the margin" not in said
    assert said.endswith("by permutations p = 0.062; it takes 5 seeds or more to be below 0.05")
    six = permuted([0.0] * 5 + [0.06], 0.05) | {"answer": "inconclusive", "p_permutation": 0.06}
    assert sentence("accuracy", six).endswith("by permutations p = 0.06; more seeds may bring it below 0.05")


def test_normal_differences_are_judged_as_before():
    for differences in (SLEEP, [0.1, 0.2], [0.1] * 5, [0.001, -0.002, 0.003, 0.0, -0.001, 0.002]):
        for margin in (0.01, 0.5):
            found = permuted(differences, margin)
            assert not found.get("normal", True) or found["answer"] == equivalence(differences, margin)["answer"]
    shifted = np.array([0.001, -0.002, 0.003, 0.0, -0.001, 0.002]) + 0.01  # by enumeration of the 64 changes of sign
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    reached = [np.mean((signs * x).mean(1) >= x.mean() - 1e-15) for x in (0.01 + shifted - 0.01, 0.01 - shifted + 0.01)]
    assert permuted(shifted - 0.01, 0.01)["p_permutation"] == pytest.approx(max(reached))


def simulated(seeds, deviation, shift, draws=40_000):
    """(share of draws that are equivalent within 1, number of draws)."""
    random = np.random.default_rng([seeds, round(100 * deviation), 7])
    d = shift + deviation * random.standard_normal((draws, seeds))
    interval = stats.ttest_1samp(d, 0.0, axis=1).confidence_interval(0.9)
    passed = (interval.low >= -1) & (interval.high <= 1)
    assert [equivalence(row, 1.0)["answer"] == "equivalent" for row in d[:50]] == passed[:50].tolist()
    return passed.mean(), draws


@given(st.floats(0.01, 2.5), st.sampled_from([0.5, 0.8, 0.95]))
def test_seeds_needed_are_the_fewest(deviation, target):
    fewest = next(n for n in range(2, 1000) if tost_power(deviation, n, 1.0) >= target)
    assert seeds_needed(deviation, 1.0, target=target) == fewest


def test_many_seeds_leave_the_normal_distribution():
    z = stats.norm.isf(0.05)
    assert tost_power(1.0, 10**6, 0.003) == pytest.approx(2 * stats.norm.cdf(3 - z) - 1, abs=1e-5)
    assert seeds_needed(1.0, 1e-6) is None


def test_equal_differences_are_the_limit_of_no_noise():
    for value, answer, p in ((0.0, "equivalent", 0.0), (0.1, "equivalent", 0.0), (-0.2, "different", 1.0)):
        found = equivalence([value] * 3, 0.1)
        assert (found["answer"], found["p"], found["interval"]) == (answer, p, [value, value])
        assert (found["deviation"], found["power"], found["seeds_needed"]) == (0.0, 1.0, 2)


@pytest.mark.parametrize(("differences", "margin"), [([], 0.1), ([0.1], 0.1), ([0.1, 0.2], 0.0),
                                                     ([0.1, 0.2], math.nan)])
def test_too_few_seeds_and_no_margin_are_refused(differences, margin):
    with pytest.raises(BadInput, match="outcome: "):
        equivalence(differences, margin)


# ---- verdict

@pytest.mark.parametrize(("jax", "agrees", "conclusive", "words"), [
    ([0.901, 0.912, 0.889, 0.905], True, True, "inside ±0.01: equivalent (p = "),
    ([0.801, 0.812, 0.789, 0.805], False, True, "outside ±0.01: different with 4 seeds"),
    ([0.930, 0.880, 0.900, 0.890], False, False, "seeds would be needed for a power of 80 % if there is no difference"),
    ([0.8905, 0.9003, 0.8795, 0.8951], False, False, "not the noise but the difference itself is near the margin")])
def test_the_rung_and_its_words(jax, agrees, conclusive, words):
    rung = outcome_rung(measured([0.900, 0.910, 0.890, 0.905], jax), {"accuracy": 0.01})
    assert (rung["name"], rung["agrees"], rung["conclusive"]) == ("P7", agrees, conclusive)
    assert rung["worst"] == max(map(abs, rung["outcome"]["accuracy"]["interval"])) and rung["bound"] == 0.01
    assert rung["bound_from"] == "the recipe's margin of accuracy"
    [line] = outcome_lines(rung)
    assert words in line and line.startswith("accuracy: Keras - JAX = ")


def test_a_difference_is_keras_less_jax():
    rung = outcome_rung(measured([0.92, 0.93], [0.90, 0.91]), {"accuracy": 0.1})
    assert rung["outcome"]["accuracy"]["mean"] == pytest.approx(0.02)


def test_one_metric_that_differs_is_an_answer_and_one_that_is_undecided_is_none():
    loss, far, wide = ({b: {s: dict(m) for s, m in runs.items()} for b, runs in measured([1, 1.1], jax, "loss").items()}
                       for jax in ([1.0001, 1.1], [3, 3.1], [1.4, 0.9]))
    for other, agrees, conclusive in ((loss, True, True), (far, False, True), (wide, False, False)):
        both = {b: {s: {"accuracy": 0.5, **other[b][s]} for s in other[b]} for b in other}
        rung = outcome_rung(both, {"loss": 0.02, "accuracy": 0.01})
        assert (rung["agrees"], rung["conclusive"], len(rung["checks"])) == (agrees, conclusive, 2)


def test_a_metric_that_is_not_finite_fails():
    rung = outcome_rung(measured([0.5, None], [0.5, 0.5]), {"accuracy": 0.01})
    assert not rung["agrees"] and rung["conclusive"] and "not finite" in outcome_lines(rung)[0]


def test_seeds_without_a_partner_and_unmeasured_metrics_are_refused():
    with pytest.raises(BadInput, match="no pairs"):
        outcome_rung(measured([0.5, 0.5], [0.5]), {"accuracy": 0.01})
    with pytest.raises(BadInput, match="compare.margin.loss: .*it has accuracy"):
        outcome_rung(measured([0.5, 0.5], [0.5, 0.5]), {"loss": 0.01})


# ---- runs

def test_each_seed_is_trained_into_a_directory_of_its_own(tmp_path):
    asked = []

    def ask(call, recipe, run_dir):
        asked.append((call, recipe.seed, run_dir))
        return {"loss": float(recipe.seed)}

    found = collect_outcome(RECIPE, SimpleNamespace(backend="jax", ask=ask), tmp_path, seeds_of(RECIPE, 3))
    assert found == {3: {"loss": 3.0}, 4: {"loss": 4.0}, 5: {"loss": 5.0}}
    assert asked == [("run_training", seed, outcome_path(tmp_path, "jax", seed)) for seed in (3, 4, 5)]


def test_a_seed_whose_run_was_taken_from_another_comparison_is_read_and_not_trained(tmp_path, monkeypatch):
    taken = outcome_path(tmp_path, "jax", 4)
    taken.mkdir(parents=True)
    monkeypatch.setattr(outcome, "read_run", lambda path, kind: {"final": {"loss": -1.0} if path == taken else None})
    trainer = SimpleNamespace(backend="jax", ask=lambda call, recipe, run_dir: {"loss": float(recipe.seed)})
    assert collect_outcome(RECIPE, trainer, tmp_path, [3, 4]) == {3: {"loss": 3.0}, 4: {"loss": -1.0}}


def test_seeds_stay_within_what_a_recipe_takes():
    assert seeds_of(RECIPE.with_values(seed=(1 << 63) - 1), 3) == [(1 << 63) - 1, 0, 1]


def test_the_option_names_a_count():
    assert parse_seeds("SEEDS=4") == 4


@pytest.mark.parametrize("text", ["", "4", "SEEDS=", "SEEDS=1", "SEEDS=-4", "SEEDS=4.0", "SEEDS=٤", "seeds=4",
                                  "SEEDS=4 ", "SEEDS=4\n", "SEEDS=100000"])
def test_any_other_option_is_refused(text):
    with pytest.raises(BadInput, match="expected SEEDS=N"):
        parse_seeds(text)


def test_a_chance_is_told_as_a_bound_where_no_few_seeds_can_know_it():
    told = sentence("loss", equivalence([1e-3, 1e-3], 0.02))
    assert "p < 1e-16, power > 99.9 % with 2 seeds" in told
    assert "p = 0" not in told and "100 %" not in told
