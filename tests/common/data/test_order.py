import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from twinscale.common.data.order import examples, indices, permutation, rows

seeds = st.integers(0, 2**63 - 1)


@given(n=st.integers(1, 3000), seed=seeds, epoch=st.integers(0, 10**6))
def test_every_epoch_is_a_permutation(n, seed, epoch):
    assert np.array_equal(np.sort(permutation(np.arange(n), n, seed, epoch)), np.arange(n))


@given(n=st.integers(1, 5000), seed=seeds, step=st.integers(0, 10**9), batch=st.sampled_from([8, 24, 64]))
@settings(max_examples=50)
def test_any_number_of_hosts_reads_the_same_global_batches(n, seed, step, batch):
    whole = indices(step, batch, n, seed)
    for hosts in (1, 2, 4, 8):
        parts = [indices(step, batch, n, seed, host, hosts) for host in range(hosts)]
        assert np.array_equal(np.stack(parts, axis=1).reshape(-1), whole)


def test_an_epoch_reads_every_example_once_and_the_next_one_in_another_order():
    n, batch = 96, 8
    read = [indices(step, batch, n, 7) for step in range(24)]
    first, second = np.concatenate(read[:12]), np.concatenate(read[12:])
    assert sorted(first) == sorted(second) == list(range(n))
    assert not np.array_equal(first, second)


def test_seeds_give_orders_of_their_own():
    assert len({tuple(indices(0, 16, 1000, seed)) for seed in range(50)}) == 50


@given(seed=seeds, step=st.integers(0, 10**6), hosts=st.sampled_from([1, 2, 4]))
@settings(max_examples=50)
def test_the_twin_reads_the_same_rows_in_another_order(seed, step, hosts):
    plain = np.concatenate([rows(step, 32, seed, host, hosts) for host in range(hosts)])
    twin = np.concatenate([rows(step, 32, seed, host, hosts, shuffled=1) for host in range(hosts)])
    assert twin.dtype == np.uint32
    assert sorted(plain) == sorted(twin) == list(range(32))
    assert not np.array_equal(plain, twin)
    by_row = dict(zip(plain, examples(plain, step, 32, 500, seed), strict=True))
    assert [by_row[row] for row in twin] == list(examples(twin, step, 32, 500, seed))


def test_many_steps_at_once_are_the_steps_one_by_one():
    steps = np.arange(40, 60)
    one_by_one = [indices(step, 8, 100, 5) for step in steps]
    assert np.array_equal(examples(np.arange(8), steps[:, None], 8, 100, 5), one_by_one)


def test_the_order_is_pinned():
    """A change of the arithmetic would silently resume old runs on other data."""
    assert indices(0, 4, 42_981, 7).tolist() == [12672, 20338, 13996, 18367]
    assert indices(10**9, 4, 42_981, 7).tolist() == [7584, 37805, 22346, 20307]


def test_a_twin_leaves_every_row_in_its_micro_batch():
    row = rows(3, 32, 5, shuffled=4).astype(int).reshape(4, 8)
    assert np.array_equal(np.sort(row), np.arange(32).reshape(4, 8)) and (np.diff(row) < 0).any(1).all()
