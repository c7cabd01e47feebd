"""Trainers as processes: how their ends come through."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinscale.benchmarks import workers
from twinscale.common import errors, process
from twinscale.common.recipe.file import given


@pytest.mark.parametrize("code, kind", [(2, errors.BadInput), (4, errors.MissingEnvironment), (70, errors.Hung),
                                        (71, errors.HostLost), (74, errors.CannotSave), (75, errors.Stopped)])
@pytest.mark.parametrize("how", ["says", "dies"])
def test_a_workers_exit_code_comes_through(code, kind, how):
    says = f"print(json.dumps({{'error': 'why', 'exit_code': {code}}}), flush=True); sys.stdin.read()"
    program = f"import json, sys; sys.stdin.readline(); {says if how == 'says' else f'sys.exit({code})'}"
    worker = object.__new__(workers.Worker)
    worker.backend, worker.programs, worker.messages = "jax", None, SimpleNamespace(join=lambda _: None)
    worker.process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      text=True)
    with pytest.raises(kind) as caught:
        worker.ask("anything")
    worker.close()
    assert caught.value.exit_code == code


def test_a_worker_that_is_gone_before_it_is_asked_is_no_broken_pipe():
    worker = object.__new__(workers.Worker)
    worker.backend, worker.programs, worker.messages = "keras", None, SimpleNamespace(join=lambda _: None)
    worker.process = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    worker.process.wait()
    with pytest.raises(errors.TwinscaleError, match="SIGKILL; where memory ends"):
        worker.ask("anything", text="x" * 2**20)
    worker.close()


def test_where_one_fails_at_what_nobody_goes_on_without_the_other_is_ended_and_not_blamed():
    """Keras, which is asked first, would train for minutes; its end is the other's failure."""
    def worker(backend):
        ours = object.__new__(workers.Worker)
        ours.backend, ours.programs, ours.messages = backend, None, SimpleNamespace(join=lambda _: None)
        ours.process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return ours

    def work(ours):
        if ours.backend == "jax":
            raise errors.MissingEnvironment("JAX gives no devices")
        return ours.ask("anything")

    both = {backend: worker(backend) for backend in ("keras", "jax")}
    with pytest.raises(errors.MissingEnvironment, match="^JAX gives no devices$"):
        workers.each(both, workers.together(both, work))
    for ours in both.values():
        ours.close()


@pytest.mark.parametrize("body, kind, said", [
    ("raise ImportError('libx.so: failed to map segment from shared object')", errors.MissingEnvironment,
     "^jax: memory has ended .libx.so"),
    ("raise KeyError('x')", errors.TwinscaleError, "^jax: internal error: KeyError: 'x'"),
    ("import sys; print('twinscale: aside', file=sys.stderr); print('last', file=sys.stderr); sys.exit(1)",
     errors.TwinscaleError, "^the jax trainer died during anything .exit code 1")])
def test_a_worker_that_cannot_begin_says_why_in_one_line(tmp_path, monkeypatch, capsys, body, kind, said):
    (tmp_path / "beginner.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(process.ROOT), str(tmp_path)]))
    worker = workers.Worker("jax", module="beginner")
    with pytest.raises(kind, match=said) as caught:
        worker.ask("anything")
    worker.close()
    shown = capsys.readouterr().err.splitlines()
    assert shown == (["  jax  twinscale: aside", "  jax  last"] if "aside" in body else [])
    assert type(caught.value) is kind


SERVING = """
import os, sys, time
from twinscale.common.calls.worker import serve
known = []
serve("room", {}, {"note": lambda what: known.append(what), "noted": lambda: [os.getpid(), known],
                   "end": lambda: os._exit(9)})
"""


@pytest.fixture
def worker(monkeypatch):
    """A worker that notes what it is told, and no framework."""
    monkeypatch.setattr(process, "helper", lambda module, _=process.helper: _("-c", SERVING))
    with workers.open_workers(rooms={"keras": "any"}) as opened:
        yield opened["keras"]


def test_a_copy_answers_beside_its_worker_and_ends_when_it_is_let_go(worker):
    worker.ask("note", what="before")
    with workers.copies({"keras": worker}) as made:
        copy = made["keras"]
        copy.ask("note", what="copy"), worker.ask("note", what="own")
        (mine, own), (other, copied) = worker.ask("noted"), copy.ask("noted")
        assert (own, copied) == (["before", "own"], ["before", "copy"]) and mine == worker.process.pid != other
        with pytest.raises(errors.TwinscaleError, match="keras: "):
            copy.ask("note", nothing="such")
    ended(other)
    assert worker.ask("noted")[0] == mine


def test_a_copy_that_dies_is_one_line_and_one_whose_worker_dies_goes_with_it(worker):
    died = pytest.raises(errors.TwinscaleError, match="keras trainer's second process died during end")
    with workers.copies({"keras": worker}) as made, died:
        made["keras"].ask("end")
    with workers.copies({"keras": worker}) as made:
        pid, _ = made["keras"].ask("noted")
        worker.process.kill()
        ended(pid)


def ended(pid):
    """Waits until a process is gone, or a zombie that its parent has not asked for."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} is still there")


def test_no_copy_is_made_where_a_socket_cannot_lie(worker, monkeypatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with workers.copies({"keras": worker}) as made:
        assert made == {}
    assert worker.ask("noted")[1] == []


def test_a_process_is_told_which_program_of_one_framework_it_runs():
    recipe = given("mlp-digits")
    assert workers.of_side(recipe, None) is recipe and workers.of_side(None, "b") is None

    class Sided:
        def with_values(self, **values):
            return values

    assert workers.of_side(Sided(), "b") == {"model": {"side": "b"}}
