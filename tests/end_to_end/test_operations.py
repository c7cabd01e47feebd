"""P1: both rooms' operations against references, as `common/operations/judge.py` judges them; planted leaks are
found."""

import importlib
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinscale.benchmarks.rungs.operations import operations_rung
from twinscale.common.numbers.formats import walk
from twinscale.common.operations.catalogue import NARROWING, OPERATIONS, STOCK
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.judge import DTYPES, FORMATS, error_of, expected, inputs_of, wanted_of
from twinscale.common.operations.known import excuses, known_deviations
from twinscale.common.operations.references import ELEMENTS, HEAD

BACKENDS = {"tfscale": "keras", "jaxscale": "jax"}
OFFERED = {room: importlib.import_module(f"twinscale.{room}.operations") for room in BACKENDS}
ELEMENTWISE = ["gelu", "gelu gradient", "gelu_tanh", "gelu_tanh gradient", "swiglu", "swiglu gradient", "relu",
               "relu gradient"]


def measured(dtypes):
    """All rows of both rooms; their compilers, which take the time, work side by side."""
    with ThreadPoolExecutor(2) as pool:
        return [row for found in pool.map(lambda room: OFFERED[room].measured(dtypes), BACKENDS) for row in found]


@pytest.fixture(scope="session")
def rows():
    return measured(("float64",))


@pytest.fixture(scope="session")
def narrow_rows():
    return measured(("float32", "bfloat16"))


@pytest.fixture(scope="session")
def functions():
    """functions(room, dtype): its operations; what was compiled once is asked once."""
    known = {}

    def of(room, dtype):
        if (room, dtype) not in known:
            known[room, dtype] = OFFERED[room].operations(dtype)
        return known[room, dtype]

    return of


def passes(rows, dtypes):
    """All agree or are known, what is listed is still seen, and no operation, dtype or case is left out."""
    found = operations_rung(rows)
    assert not [row for row in rows if not row["agrees"] and not row["known"]]
    assert found["agrees"] and found["name"] == "P1" and found["worst"] <= found["bound"]
    assert found["where"].split()[0] in BACKENDS.values() and found["stale"] == []
    seen = {(row["backend"], row["dtype"], row["operation"], row["case"]) for row in rows if not row["stock"]}
    assert seen == {(backend, dtype, name, case) for backend in BACKENDS.values() for dtype in dtypes
                    for name in expected(dtype) for case in inputs_of(name, dtype)}


def test_every_operation_agrees_or_is_known(rows):
    passes(rows, ("float64",))


@pytest.mark.slow
def test_every_operation_agrees_or_is_known_in_lower_precision(narrow_rows):
    passes(narrow_rows, ("float32", "bfloat16"))


@pytest.mark.slow
def test_every_listed_deviation_is_one_that_rows_can_show(rows, narrow_rows):
    """A slip in the list's own words would match no row, and never be stale."""
    assert all(any(excuses(d, row) for row in rows + narrow_rows) for d in known_deviations() if d["device"] == "cpu")


def test_a_deviation_that_is_not_listed_fails_and_one_no_longer_seen_is_stale(rows):
    row = next(row for row in rows if not row["stock"])
    wrong = {**row, "error": 2 * row["bound"], "agrees": False}
    found = operations_rung([wrong])
    assert not found["agrees"] and row["operation"] in found["where"]
    assert operations_rung([{**wrong, "known": "a reason"}, row])["agrees"]
    listed = next(row for row in rows if row["known"])
    mended = [{**r, "agrees": True, "known": None, "error": 0.0} for r in rows if r["operation"] == listed["operation"]]
    assert operations_rung([row, *mended])["stale"]


# ---- planted leaks

def leaks():
    """(operation, what is wrong with it, function): each a mistake of one constant, one sum or one order."""
    sqrt2, a = float(np.float32(math.sqrt(2))), float(np.float32(0.044715))

    def erf(x):
        return np.vectorize(math.erf)(x)

    def layer_norm(x, scale, bias):
        mean = x.mean(-1, keepdims=True)
        variance = (x**2).mean(-1, keepdims=True) - mean**2
        return (x - mean) / np.sqrt(np.maximum(variance, 0) + 1e-5) * scale + bias

    def last_row(ids, table, dy):
        found = np.zeros_like(table)
        found[ids] = dy
        return found

    c = math.sqrt(2 / math.pi)
    return [("gelu", "a root of 2 in float32", lambda x: x * (1 + erf(x / sqrt2)) / 2),
            ("gelu", "the tanh form", lambda x: x * (1 + np.tanh(c * (x + 0.044715 * x**3))) / 2),
            ("gelu_tanh", "0.044715 in float32", lambda x: x * (1 + np.tanh(c * (x + a * x**3))) / 2),
            ("layer norm", "the fast variance", layer_norm),
            ("embedding gradient", "repeated ids overwrite", last_row),
            ("dense", "a product in float32",
             lambda x, w, b: (x.astype(np.float32) @ w.astype(np.float32)).astype(np.float64) + b)]


@pytest.mark.parametrize("name,what,wrong", leaks(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_planted_leak_is_found(name, what, wrong):
    def worst(function):
        with np.errstate(all="ignore"):
            return max(error_of(wanted_of(name, "float64", arrays), [function(*arrays)], "float64")
                       for arrays in inputs_of(name, "float64").values())

    bound = OPERATIONS[name].bound(FORMATS["float64"])
    assert worst(wrong) > 10 * bound, what


@pytest.mark.parametrize("backend,name", [
    ("keras", "stock gelu"), ("keras", "stock gelu_tanh"), ("keras", "stock clip"), ("keras", "stock batch norm"),
    ("jax", "stock layer norm"), ("jax", "stock batch norm")])
def test_stock_functions_leak_where_ours_do_not(rows, backend, name):
    """In float64, where nothing but an error is that large."""
    def above(operation):
        return [row for row in rows if row["backend"] == backend and row["operation"] == operation
                and row["dtype"] == "float64" and not row["agrees"]]

    assert above(name) and not above(STOCK[name])
    assert max(row["error"] / row["bound"] for row in above(name)) > 10


# ---- bfloat16

NARROW = ["embedding", "layer norm", "rms norm", "dense", "tied head", "conv stride 1", "batch norm", "pool"]


@pytest.mark.parametrize("room", BACKENDS)
def test_what_is_judged_in_bfloat16_is_computed_in_it(room, functions):
    """Not in float32, which would be within any bound of bfloat16: what comes out is in values of bfloat16."""
    offered = functions(room, "bfloat16")
    for name in NARROW:
        found = offered[name](*inputs_of(name, "bfloat16")["normal"])[0]
        assert (found == rounded(found, FORMATS["bfloat16"])).all() and found.any(), name


def test_products_of_attention_sum_in_float32_and_round_once_in_a_plain_graph():
    """Forward and backward: TensorFlow's own einsum adds bfloat16 up in bfloat16 there. All terms are positive, so that
    a sum is as large as what is summed, and one rounding of it half an eps at most."""
    room, rng, f = OFFERED["tfscale"], np.random.default_rng(0), FORMATS["bfloat16"]
    own, policy = room.layers(room.keras), room.POLICIES["bfloat16"]
    q, k, shares, mixed = (rounded(rng.random(shape), f).astype(np.float64) for shape in (
        (2, HEAD, 1, 2, HEAD), (2, HEAD, 1, HEAD), (2, 1, 2, HEAD, HEAD), (2, HEAD, 1, 2, HEAD)))
    flat, root = (2, HEAD, 2, HEAD), math.sqrt(HEAD)
    by_query, by_key, scores = "bkgts,bskd->btkgd", "bkgts,btkgd->bskd", "btkgd,bskd->bkgts"
    asked = {own.AttentionScores: ((q.reshape(flat), k), shares, np.einsum(scores, q, k) / root,
                                   [np.einsum(by_query, shares, k) / root, np.einsum(by_key, shares, q) / root]),
             own.AttentionMix: ((shares, k), mixed.reshape(2, HEAD, -1), np.einsum(by_query, shares, k),
                                [np.einsum(scores, mixed, k), np.einsum(by_key, shares, mixed)])}
    for kind, (inputs, arriving, forward, backward) in asked.items():
        layer = kind(dtype=policy)
        functions = {"forward": lambda *x, layer=layer: layer(*(room.narrow(v, "bfloat16") for v in x)),
                     "backward": room.gradient(lambda *x, layer=layer: layer(*x), by=(0, 1))}
        graphs = room.compiled(functions, jit_compile=False)
        narrow = [room.narrow(x, "bfloat16") for x in inputs]
        found = graphs["forward"](*inputs) + graphs["backward"](*narrow, arriving)
        for x, wanted in zip(found, (forward, *backward), strict=True):
            error = np.abs(x.reshape(wanted.shape) - wanted) / wanted / f.eps
            assert error.max() <= 0.5 + walk(2 * HEAD) * NARROWING, kind


# ---- more inputs than the catalogue's

@pytest.mark.parametrize("room", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=15)
@given(values=st.data())
def test_elementwise_operations_hold_for_any_input(functions, room, dtype, values):
    f = FORMATS[dtype]
    x = values.draw(st.lists(st.floats(-f.large, f.large), min_size=8, max_size=8))
    x = np.resize(x, ELEMENTS)
    for name in ELEMENTWISE:
        others = inputs_of(name, dtype)["normal"][1:]
        arrays = tuple(rounded(array, f) for array in (x, *others))
        error = error_of(wanted_of(name, dtype, arrays), functions(room, dtype)[name](*arrays), dtype)
        assert error <= OPERATIONS[name].bound(f), name
