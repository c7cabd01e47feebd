"""Matches that are found, of programs in NumPy written by different hands: names, blocks, layouts, and trial."""

import math

import numpy as np
import pytest

from twinscale.common.pairs.match import carried
from twinscale.common.pairs.search import find, matched_by_names
from twinscale.common.pairs.tensors import Tensor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 6))


def tensors_of(shapes):
    return [Tensor(name, shape) for name, shape in shapes.items()]


def judge_of(a, b, shapes):
    """The difference of two functions of tensors, at values that are nowhere equal."""
    values = {name: RNG.normal(size=shape) for name, shape in shapes.items()}
    wanted = a(values)

    def judge(match):
        made = b(carried(match, values))
        return float(np.linalg.norm(made - wanted) / np.linalg.norm(wanted))

    return judge


def found(a, b, shapes_a, shapes_b):
    match, difference, tried = find(tensors_of(shapes_a), tensors_of(shapes_b), judge_of(a, b, shapes_a))
    return {line.b: line.text for line in match.lines}, difference, tried


def layers(w, names, x=X):
    for i, name in enumerate(names):
        x = x @ w[f"{name}/kernel"] + w[f"{name}/bias"]
        x = np.tanh(x) if i + 1 < len(names) else x
    return x


NAMES = [f"dense_{i}" for i in range(4)]
DENSE = {f"{name}/{leaf}": shape for name in NAMES for leaf, shape in (("kernel", (6, 6)), ("bias", (6,)))}


def test_equal_square_layers_are_matched_by_their_order_whatever_their_names():
    """By sizes alone there are 24 ways, and each kernel may be turned."""
    shapes = {f"{name}/{leaf}": shape for name in ("first", "second", "third", "last")
              for leaf, shape in (("weight", (6, 6)), ("bias", (6,)))}

    def other(w):
        return layers({name.replace("weight", "kernel"): x.T if x.ndim == 2 else x for name, x in w.items()},
                      ("first", "second", "third", "last"))

    lines, difference, tried = found(lambda w: layers(w, NAMES), other, DENSE, shapes)
    assert difference < 1e-12 and lines["third/weight"] == "dense_2/kernel | transpose 1 0" and tried < 10


def test_modules_whose_names_mislead_are_found_by_trial():
    """Names and order say that the first is the first; the program has them the other way round."""
    lines, difference, _ = found(lambda w: layers(w, NAMES), lambda w: layers(w, [NAMES[i] for i in (1, 0, 2, 3)]),
                                 DENSE, DENSE)
    assert difference < 1e-12
    assert (lines["dense_0/kernel"], lines["dense_0/bias"]) == ("dense_1/kernel", "dense_1/bias")


@pytest.mark.parametrize("by_head", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_queries_keys_and_values_in_one_tensor(by_head, turned):
    shapes_a = {f"attention/{name}/{leaf}": shape for name in ("key", "query", "value")
                for leaf, shape in (("kernel", (6, 2, 3)), ("bias", (2, 3)))} | {
                    "attention/output/kernel": (2, 3, 6), "attention/output/bias": (6,)}
    shapes_b = {"attn/qkv/w": (18, 6) if turned else (6, 18), "attn/qkv/b": (18,), "attn/proj/w": (6, 6),
                "attn/proj/b": (6,)}

    def attend(q, k, v):
        """Of 2 heads, each (rows, 2, 3)."""
        scores = np.einsum("thd,shd->hts", q, k)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hts,shd->thd", shares / shares.sum(-1, keepdims=True), v)

    def one(w):
        q, k, v = (np.einsum("ti,ihd->thd", X, w[f"attention/{name}/kernel"]) + w[f"attention/{name}/bias"]
                   for name in ("query", "key", "value"))
        return np.einsum("thd,hdo->to", attend(q, k, v), w["attention/output/kernel"]) + w["attention/output/bias"]

    def other(w):
        kernel = w["attn/qkv/w"].T if turned else w["attn/qkv/w"]
        fused = X @ kernel + w["attn/qkv/b"]
        parts = np.split(fused.reshape(-1, 2, 9), 3, -1) if by_head else [
            part.reshape(-1, 2, 3) for part in np.split(fused, 3, -1)]
        return attend(*parts).reshape(-1, 6) @ w["attn/proj/w"] + w["attn/proj/b"]

    lines, difference, _ = found(one, other, shapes_a, shapes_b)
    assert difference < 1e-12
    assert lines["attn/qkv/w"].startswith("attention/query/kernel, attention/key/kernel, attention/value/kernel | ")
    back, apart, _ = found(other, one, shapes_b, shapes_a)
    assert apart < 1e-12 and all("attn/qkv/w" in back[f"attention/{name}/kernel"] for name in ("query", "key", "value"))


def test_twelve_blocks_are_decided_together():
    """192 tensors whose kernels are all square: a handful of trials, not a product of choices."""
    names = ("query", "key", "value", "out")
    shapes_a = {f"layer_{i}/{name}/{leaf}": shape for i in range(12) for name in names
                for leaf, shape in (("kernel", (6, 6)), ("bias", (6,)))}
    shapes_b = {f"h/{i}/{name}/{leaf}": shape for i in range(12) for name in ("q", "k", "v", "proj")
                for leaf, shape in (("weight", (6, 6)), ("bias", (6,)))}

    def run(w, block, names, kernel, turned):
        x = X
        for i in range(12):
            q, k, v, o = (w[f"{block.format(i)}/{name}/{kernel}"] for name in names)
            bq, bk, bv, bo = (w[f"{block.format(i)}/{name}/bias"] for name in names)
            q, k, v, o = (x.T for x in (q, k, v, o)) if turned else (q, k, v, o)
            y = np.tanh(x @ q + bq) * (x @ k + bk) + (x @ v + bv)
            x = x + np.tanh(y) @ o + bo
            x = x / np.sqrt((x**2).mean(-1, keepdims=True))
        return x

    lines, difference, tried = found(
        lambda w: run(w, "layer_{}", names, "kernel", False),
        lambda w: run(w, "h/{}", ("q", "k", "v", "proj"), "weight", True), shapes_a, shapes_b)
    assert difference < 1e-9 and tried <= 4
    assert lines["h/11/k/weight"] == "layer_11/key/kernel | transpose 1 0"


def test_programs_that_differ_keep_the_match_of_their_names():
    """No match makes them agree, and one that comes a little nearer by chance is not taken for it."""
    lines, difference, _ = found(lambda w: layers(w, NAMES), lambda w: 1.1 * layers(w, NAMES), DENSE, DENSE)
    assert math.isclose(difference, 0.1, rel_tol=1e-6) and all(name == text for name, text in lines.items())


def test_a_table_that_is_the_head_too_goes_to_both_places():
    shapes_a = {"tok/embeddings": (9, 6), "dense/kernel": (6, 6), "dense/bias": (6,)}
    shapes_b = {"wte": (9, 6), "fc/w": (6, 6), "fc/b": (6,), "lm_head/w": (6, 9)}
    ids = [3, 1, 4, 1, 5]
    lines, difference, _ = found(
        lambda w: (w["tok/embeddings"][ids] @ w["dense/kernel"] + w["dense/bias"]) @ w["tok/embeddings"].T,
        lambda w: (w["wte"][ids] @ w["fc/w"] + w["fc/b"]) @ w["lm_head/w"], shapes_a, shapes_b)
    assert difference < 1e-12 and lines["lm_head/w"] == "tok/embeddings | transpose 1 0"


def test_what_has_no_partner_is_named():
    parts, left_a, left_b = matched_by_names(tensors_of(DENSE), tensors_of({**DENSE, "gate/kernel": (7, 6)}))
    assert (left_a, left_b) == ([], ["gate/kernel"]) and len(parts) == len(DENSE)
    parts, left_a, left_b = matched_by_names(tensors_of({**DENSE, "gate/kernel": (7, 6)}), tensors_of(DENSE))
    assert (left_a, left_b) == (["gate/kernel"], [])
