import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinscale.common.numbers.bits import draw, fold_in, keep_below, key, name_word, uniform

words = st.integers(0, 2**32 - 1)


@given(seed=words, data=words, rows=st.lists(words, min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_keys_and_blocks_are_those_of_jax(seed, data, rows):
    jax = pytest.importorskip("jax")
    threefry = pytest.importorskip("jax.extend.random").threefry_2x32
    ours, theirs = fold_in(key(seed), data), jax.random.key_data(jax.random.fold_in(jax.random.key(seed), data))
    assert np.array_equal(ours, theirs)
    row, column = (np.array(counter, np.uint32).reshape(-1) for counter in np.broadcast_arrays(
        np.array(rows, np.uint32)[:, None], np.arange(7, dtype=np.uint32)))
    hi, lo = np.split(np.asarray(threefry(theirs, np.concatenate([row, column]))), 2)
    assert np.array_equal(draw(ours, rows, 7).reshape(-1), hi ^ lo)


@given(seed=words)
@settings(max_examples=25, deadline=None)
def test_row_0_is_what_jax_random_draws(seed):
    jax = pytest.importorskip("jax")
    with jax.threefry_partitionable(True):
        root, bits = jax.random.key(seed), draw(key(seed), [0], 257)[0]
        assert np.array_equal(bits, jax.random.bits(root, (257,)))
        assert np.array_equal(uniform(bits), jax.random.uniform(root, (257,)))
        for rate in (0.0, 0.1, 0.25, 0.5, 0.9):
            kept = jax.random.bernoulli(root, np.float32(1 - rate), (257,))
            assert np.array_equal(bits >> 9 < keep_below(rate), kept)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_a_rate_drops_its_share(rate):
    assert abs((draw(key(5), np.arange(64), 257) >> 9 < keep_below(rate)).mean() - (1 - rate)) < 0.02


@given(rows=st.permutations(range(20)), size=st.integers(1, 40), seed=st.integers(0, 2**63 - 1))
def test_a_rows_bits_depend_on_its_number_alone(rows, size, seed):
    assert np.array_equal(draw(key(seed), rows, size), draw(key(seed), range(20), size)[rows])


def test_rows_far_apart_have_bits_of_their_own():
    assert len(np.unique(draw(key(1), [0, 1, 2**22, 2**32 - 1], 1024))) > 4090


def test_names_and_steps_give_streams_of_their_own():
    keys = {tuple(fold_in(fold_in(key(0), name_word(name)), step))
            for name in ("augment.flip", "augment.shift", "block_0.dropout") for step in range(100)}
    assert len(keys) == 300


def test_a_step_is_folded_into_a_key_in_one_place():
    """Training, taps and step tensors all ask `step_key`: no other code folds a step, or roots a key in a seed."""
    root, folds, roots = Path(__file__).parents[3], set(), set()
    rooms = ("common", "tfscale", "jaxscale", "kerasjax", "swap")
    for path in (p for folder in rooms for p in (root / folder).rglob("*.py")):
        for node in (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)):
            called, given = ast.unparse(node.func).split(".")[-1], [ast.unparse(x) for x in node.args]
            if called == "fold_in" and given[-1] in ("step", "number", "i", "0", "1") and not (
                    path.name.startswith("mutants")):
                folds.add(str(path.relative_to(root)))
            if called in ("key", "root_key") and "seed" in given[0]:
                roots.add(str(path.relative_to(root)))
    assert folds == {"common/numbers/bits.py", "tfscale/bits.py", "jaxscale/bits.py"}
    assert roots == {"common/data/augment.py", "common/data/masking.py", "common/generation/sample.py",
                     "common/losses.py", "tfscale/bits.py", "jaxscale/bits.py"}
