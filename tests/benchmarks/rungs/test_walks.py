"""Null directions: two walks of noise stay within what each optimizer's derivation allows, and hardly more is allowed
than noise can reach; what is no noise is seen."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

from twinscale.benchmarks.rungs.ladder import shares_rounded, weight_checks
from twinscale.benchmarks.rungs.walks import noise_of, parting
from twinscale.common.errors import BadInput
from twinscale.common.optimizers import described
from twinscale.common.recipe.schema import Optimizer

REFERENCE = Path(__file__).parents[2] / "end_to_end" / "reference.py"
SPEC = importlib.util.spec_from_file_location("twinscale_updates", REFERENCE)
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)

STEPS, BIAS, KERNEL = 12, "block_0.attention.key.bias", "block_0.attention.key.kernel"
RATES = np.linspace(0.1, 0.02, STEPS)
KINDS = [{"name": "adamw"}, {"name": "adamw", "beta1": 0.0}, {"name": "adamw", "beta1": 0.99, "beta2": 0.5},
         {"name": "lamb"}, {"name": "lion"}, {"name": "lion", "beta2": 0.5}, {"name": "sgd", "momentum": 0.0},
         {"name": "sgd"}, {"name": "sgd", "nesterov": True}]
SIZES = [1e-17, 1e-9, 1.0]  # of the noise, below and above an epsilon


def optimizer(**values):
    return Optimizer.model_validate({"weight_decay": 0.3, "ema": 0.7, **values})


def noises(size, seed):
    """Gradients (T, 6) of one size: independent, one sign throughout, turning once, first nothing, ever smaller."""
    rng = np.random.default_rng(seed)
    shapes = [rng.standard_normal((STEPS, 6)).clip(-1, 1), np.ones((STEPS, 6)) * rng.choice([-1, 1], 6),
              np.where(np.arange(STEPS)[:, None] < 5, 1.0, -1.0) * np.ones(6),
              np.where(np.arange(STEPS)[:, None] < 8, 0.0, 1.0) * np.ones(6),
              10.0 ** -np.arange(STEPS)[:, None] * rng.choice([-1, 1], 6)]
    return [size * shape for shape in shapes]


def walked(o, name, first, gradients):
    return reference.updated(o, RATES, {name: first}, [{name: g} for g in gradients])


@pytest.mark.parametrize("values", KINDS, ids=lambda v: "-".join(map(str, v.values())))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "start"), [(BIAS, 0.0), (KERNEL, 0.5)])
def test_two_walks_of_noise_stay_within_the_bound(values, size, name, start):
    o, first, furthest = optimizer(**values), np.full(6, start), 0.0
    bound = parting(o, RATES, np.full(STEPS, size), name, first)
    ends = [walked(o, name, first, g) for seed in range(3) for g in noises(size, seed)]
    ends += [walked(o, name, first, -g) for g in noises(size, 0)]
    for one in ends:
        for other in ends:
            apart = np.abs(one[f"weights/{name}"] - other[f"weights/{name}"]).max()
            assert apart <= bound
            assert np.abs(one[f"ema/{name}"] - other[f"ema/{name}"]).max() <= bound  # averages of what lies within it
            furthest = max(furthest, apart)
    assert math.isfinite(bound)
    reachable = values["name"] != "lamb" and values.get("beta2") != 0.5
    if reachable and furthest > 1e-15:  # a bound that noise nearly reaches hides little
        assert bound <= 4 * furthest


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.9, 0.95), (0.5, 0.1), (0.0, 0.99)])
def test_adams_largest_update_is_reached_by_the_gradients_of_its_derivation_and_by_no_others(beta1, beta2):
    o = optimizer(beta1=beta1, beta2=beta2, epsilon=1e-300, weight_decay=0.0)
    bounds, rng = described(o).strides(o, RATES, np.ones(STEPS), np.zeros(1)), np.random.default_rng(1)

    def update(gradients):
        before, after = (walked(o, BIAS, np.zeros(1), gradients[:n])[f"weights/{BIAS}"] if n else np.zeros(1)
                         for n in (len(gradients) - 1, len(gradients)))
        return abs(float((after - before)[0])) / RATES[len(gradients) - 1]

    def updated(o, rates, *rest):
        return original(o, rates[:len(rest[1])], *rest)

    original, reference.updated = reference.updated, updated
    try:
        for t in (1, 2, 5, STEPS):
            reaching = [np.array([(beta1 / beta2) ** (t - 1 - i)]) for i in range(t)]
            assert update(reaching) == pytest.approx(bounds[t - 1], rel=1e-9)
            for _ in range(20):
                drawn = list(rng.standard_normal((t, 1)) * 10.0 ** rng.uniform(-3, 3, (t, 1)))
                assert update(drawn) <= bounds[t - 1] * (1 + 1e-9)
    finally:
        reference.updated = original
    kingma = max(1.0, (1 - beta1) / math.sqrt(1 - beta2))
    assert bounds[0] == pytest.approx(1.0) and (beta1 > 0 or max(bounds) <= kingma * (1 + 1e-9))


def test_nothing_bounds_adam_whose_root_forgets_but_its_epsilon():
    o = optimizer(beta2=0.0)
    assert described(o).strides(o, RATES, np.full(STEPS, 1e-12), np.zeros(1)).tolist() == pytest.approx(
        [min(1.0, 1e-4)] + [1e-4] * (STEPS - 1))


def runs_of(keras, jax, twin=None, norm=1.0):
    """Trainings as `weight_checks` reads them: a bias of so many values, and a kernel in which all agree."""
    kernel = {"weights/head.kernel": np.linspace(-1, 1, 9)}
    made, twin = {"positions": 64}, keras if twin is None else twin
    for run, bias in {"keras": keras, "keras-twin": twin, "jax": jax, "jax-twin": jax}.items():
        made[run] = {"weights": kernel | {f"weights/{BIAS}": bias}, "norm": np.full(STEPS, norm)}
    return made


def null_check(o, keras, jax, twin=None):
    found = weight_checks(runs_of(keras, jax, twin), {BIAS: np.zeros(6)}, o, RATES)
    return next(c for c in found if "null" in c["what"])


def test_lions_two_walks_of_opposite_signs_agree():
    o = optimizer(name="lion")
    one, other = (walked(o, BIAS, np.zeros(6), [np.full(6, sign * 1e-17)] * STEPS)[f"weights/{BIAS}"]
                  for sign in (1, -1))
    assert np.abs(one - other).max() > RATES.sum() * 1.9  # the sum of the rates does not bound it
    assert null_check(o, one, other)["agrees"]
    # However loud twins are: 2.1 times the sum is no noise.
    assert not null_check(o, one, one + 2.1 * RATES.sum(), twin=other)["agrees"]


@pytest.mark.parametrize("values", KINDS, ids=lambda v: "-".join(map(str, v.values())))
def test_a_bias_that_one_backend_really_moves_is_seen(values):
    """Four times as far as noise reaches, and by a gradient of a thousandth wherever an update knows its size."""
    o = optimizer(**values)
    still = np.zeros(6)
    if o.name == "lion":
        moved = walked(o, BIAS, still, [np.ones(6)] * STEPS)[f"weights/{BIAS}"] * 4
    else:
        moved = walked(o, BIAS, still, [np.full(6, 1e-3)] * STEPS)[f"weights/{BIAS}"]
    assert not null_check(o, still, moved)["agrees"]
    # What has a gradient of its own is no null direction, and judged as every tensor is.
    assert not all(c["agrees"] for c in weight_checks(runs_of(still + 1, still + 1 + 1e-9), {}, o, RATES))


def test_noise_is_clipped_with_the_gradient_and_measured_by_the_largest_so_far():
    o = optimizer(clip_norm=0.5)
    assert noise_of(o, [4.0, 0.25, 1.0], 1e-15) == pytest.approx([0.5e-15, 4e-15, 2e-15])


def test_no_optimizer_is_bounded_as_another_is():
    unheard = Optimizer().model_copy(update={"name": "unheard"})
    for bound in (lambda: parting(unheard, [1.0], [1.0], "a.kernel", 1.0), lambda: shares_rounded(unheard)):
        with pytest.raises(BadInput, match="unheard"):
            bound()
