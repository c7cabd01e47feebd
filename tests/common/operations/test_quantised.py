"""The quantum of a product in 8 bits holds for any rounding of its factors, and is no larger than it has to be."""

import numpy as np

from twinscale.common.operations.quantised import LARGEST, MOST_TERMS, quanta, quantum
from twinscale.common.recipe.schema import Recipe


def in_steps(x, axis):
    step = np.abs(x).max(axis, keepdims=True) / LARGEST
    return np.round(x / step) * step


def test_a_product_of_rounded_factors_is_within_its_quantum_and_comes_near_to_it():
    rng = np.random.default_rng(3)
    for terms in (1, 2, 16, 700):
        x, w = rng.standard_normal((3, 40, terms)), rng.standard_normal((terms, 50))
        used = np.abs(in_steps(x, -1) @ in_steps(w, 0) - x @ w) / quantum(x, w)
        assert used.max() <= 1 and (terms == 1 or used.max() > 0.3), terms


def test_roundings_that_all_go_one_way_are_within_the_worst_case_of_few_terms():
    x, w = np.array([[1.0, 0.5 / LARGEST]]), np.array([[1.0], [0.5 / LARGEST]])  # ties: half a step each
    assert abs(in_steps(x, -1) @ in_steps(w, 0) - x @ w) <= quantum(x, w)


def test_a_step_a_tenth_too_large_is_outside():
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((64, 256)), rng.standard_normal((256, 64))
    used = np.abs(1.1 * in_steps(x, -1) @ in_steps(w, 0) - x @ w) / quantum(x, w)
    assert used.max() > 2


def test_int32_holds_the_longest_sum_that_is_let_through():
    assert MOST_TERMS * LARGEST**2 < 2**31 <= (MOST_TERMS + 1) * LARGEST**2


def test_what_several_products_read_has_the_quanta_of_all_and_the_head_has_none():
    model = Recipe.model_validate({"name": "q", "model": {"family": "decoder", "layers": 1, "width": 8, "heads": 2}}
                                  ).model
    names = [f"attention.{name}" for name in ("query", "key", "value", "output")] + ["feedforward.up"]
    shapes = dict.fromkeys(names, (8, 8)) | {"feedforward.up": (8, 32), "feedforward.down": (32, 8)}
    rng = np.random.default_rng(3)
    weights = {f"weights/block_0.{name}.kernel": rng.standard_normal(shape) for name, shape in shapes.items()}

    class Given(dict):
        def __missing__(self, key):
            wide = key.endswith("activation") or key == "backward/block_0.feedforward.up"
            self[key] = rng.standard_normal((2, 3, 32 if wide else 8))
            return self[key]

    given = Given()
    found = quanta(model, given, weights, "float32")
    forward = {key.partition("/")[2] for key in found if key.startswith("forward/")}
    assert forward == {f"block_0.{name}" for name in shapes}
    three = sum(quantum(given[f"backward/block_0.attention.{name}"],
                        weights[f"weights/block_0.attention.{name}.kernel"].T.astype(np.float32))
                for name in ("query", "key", "value"))
    np.testing.assert_allclose(found["backward/block_0.norm_1"], three, rtol=1e-6)
