"""Read before any test module: what the frameworks look up once, when they are first imported."""

import gc
import os
import signal
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")  # of which a recipe takes one unless it says more

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # `nohup` and `&` ignore it, and so would all that is started
gc.set_threshold(50_000, 20, 100)  # as `common.process.collect_rarely`, before anything is imported

# Read from here the rooms would be found by their folders' names too, a second time under the names of others.
sys.modules |= dict.fromkeys(("common", "tfscale", "jaxscale", "benchmarks", "swap"))

# How long an example takes is a matter of the machine's load, which no test here is about.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def devices(request):
    """Four CPUs for the trainers in TensorFlow too, before any other test starts it."""
    if any("end_to_end" in item.path.parts for item in request.session.items):
        from twinscale.common import process
        from twinscale.tfscale.devices import split_cpu

        process.keep_memory()  # as every process that trains does
        split_cpu(4)


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory):
    """A user's directory of the session's own, where what the tests name is remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def trusting(monkeypatch):
    """All code is as if the user had named it, in this process."""
    monkeypatch.setattr("twinscale.common.registry.is_trusted", lambda key: True)


@pytest.fixture
def theirs():
    """theirs(out, folders): lays a user's files beside a directory, under it and in its `folders`, with links to them,
    all under names that tempt; returns a function that reads them all."""
    def lay(out, folders=()):
        beside, written = out.parent / f"{out.name}-of-mine", []
        for folder in (beside, *(out / name for name in (".", *folders))):
            for name in ("mine.txt", ".mine.tmp", ".mine.7.tmp", "mine/step_9/data", "mine/run.json",
                         "mine/.run.json.7.tmp", "mine/0.json"):
                written.append(folder / name)
                written[-1].parent.mkdir(parents=True, exist_ok=True)
                written[-1].write_text(f"of mine: {folder / name}")
            (folder / "linked").symlink_to(beside.absolute())
        return lambda: {file: file.read_bytes() for file in written}

    return lay


@pytest.fixture(scope="module", autouse=True)
def lean():
    """What a module has left behind is searched for garbage no more: compiled programs stay, and millions of objects
    with them."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def results(tmp_path):
    """A file of runs whose law is planted, and which lie around it by 0.2 %."""
    import pandas

    from tests.benchmarks.laws.tables import planted

    columns, y = planted("chinchilla", noise=0.002)
    pandas.DataFrame({"N": columns["N"], "D": columns["D"], "loss": y}).to_csv(tmp_path / "results.csv", index=False)
    return tmp_path / "results.csv"
