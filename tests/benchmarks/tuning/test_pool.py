"""Threads have processes of their own, kept from call to call and ended with them."""

from threading import Barrier, Lock
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.tuning import pool, trials
from twinscale.common.errors import BadInput, CannotSave


@pytest.fixture
def workers(monkeypatch):
    """All processes that were made, each with whether it was closed."""
    made = []

    class Worker:
        def __init__(self, backend, module=None, anew=True):
            self.backend, self.closed, self.process = backend, False, SimpleNamespace(poll=lambda: None)
            made.append(self)

        def close(self):
            self.closed = True

    monkeypatch.setattr(trials, "Worker", Worker)
    return made


def test_each_thread_keeps_a_process_of_each_backend(workers, tmp_path):
    left, lock, together = list(range(8)), Lock(), Barrier(2)

    def one(crew_of):
        with lock:
            if not left:
                return False
            number = left.pop()
        if number > 5:
            together.wait(10)  # so that both threads have some
        crew_of(("jax", "keras")[number % 2]).ready()
        return True

    pool.side_by_side(2, one, tmp_path)
    assert not left and len(workers) <= 4 and all(worker.closed for worker in workers)
    assert {worker.backend for worker in workers} == {"jax", "keras"}


def test_what_one_raises_ends_all_and_closes_the_processes(workers, tmp_path):
    calls = []

    def one(crew_of):
        calls.append(crew_of("jax").ready())
        if len(calls) == 3:
            raise CannotSave("no space left on device")
        return True

    with pytest.raises(CannotSave):
        pool.side_by_side(1, one, tmp_path)
    assert len(calls) == 3 and [worker.closed for worker in workers] == [True]


def test_a_directory_is_held_by_one_process_of_the_verb(tmp_path):
    with pool.held(tmp_path, "study"), pytest.raises(BadInput, match="another `twinscale study` is at work"), \
            pool.held(tmp_path, "study"):
        pass
