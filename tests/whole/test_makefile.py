"""The Makefile takes a Python that works and the lock that was tested with it; Pythons here are scripts that say so."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "cp", "chmod", "grep", "mkdir", "rm", "tail", "touch")
PYTHONS = ("3.11", "3.12", "3.13")
LOCK = ("requirements.lock", "requirements-tpu.lock")
NEWEST = ("requirements-newest.lock", "requirements-tpu-newest.lock")
# Asked whether it makes environments, what its version is, to make one, and to run the tests.
PYTHON = r"""#!/bin/sh
for last; do :; done
case "$1 $2" in
"-c import ensurepip"*) {works} ;;
"-c import sys"*) echo {version} ;;
"-m venv") mkdir -p "$last/bin"; cd "$last/bin"; cp "$0" python
           echo '#!/bin/sh' > pip; chmod +x pip ;;
"-m pytest") echo "{tests}"; echo later; exit {code} ;;
esac
"""


@pytest.fixture
def place(tmp_path):
    """A folder with what make reads, and a path on which nothing lies but what its recipes run."""
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    for name in ("Makefile", "pyproject.toml", *(path.name for path in ROOT.glob("*.lock"))):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def put(place, version, name="", works="true", tests="7 passed in 1.00s", code=0):
    path = place / (name or f"bin/python{version}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PYTHON.format(version=version, works=works, tests=tests, code=code))
    path.chmod(0o755)


def make(place, *words):
    return subprocess.run([shutil.which("make"), *words], cwd=place, text=True, capture_output=True,
                          env={"PATH": str(place / "bin"), "HOME": str(place)})


def taken(done):
    """(Python, lock, lock of the TPU's compiler) of a dry run."""
    assert done.returncode == 0, done.stderr
    return (re.search(r"^(\S+) -m venv", done.stdout, re.M)[1], re.search(r"install -q -r (\S+)", done.stdout)[1],
            re.search(r"grep '\^libtpu==' (\S+)\)", done.stdout)[1])


@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_gets_the_lock_that_was_tested_with_it(place, version):
    put(place, version)
    assert taken(make(place, "-n", "test")) == (f"python{version}", *LOCK)
    put(place, version, "elsewhere")
    assert taken(make(place, "-n", "test", "PYTHON=./elsewhere")) == ("./elsewhere", *LOCK)


def test_the_newest_python_that_there_is_is_taken(place):
    for version in PYTHONS:
        put(place, version)
        assert taken(make(place, "-n", "test")) == (f"python{version}", *LOCK)


def test_the_newest_packages_are_tested_in_an_environment_of_their_own(place):
    put(place, "3.11")
    put(place, "3.12")
    done = make(place, "-n", "test-newest")
    assert taken(done) == ("python3.12", *NEWEST) and re.search(r"-m venv +\.venv-newest$", done.stdout, re.M)


def test_a_python_that_cannot_make_an_environment_is_passed_over(place):
    """Such as a shim of pyenv's, whose Python lies where it keeps them."""
    for version in PYTHONS:
        put(place, version, works="exit 127")
    put(place, "3.12", ".pyenv/versions/3.12.9/bin/python3.12")
    assert taken(make(place, "-n", "test")) == (str(place / ".pyenv/versions/3.12.9/bin/python3.12"), *LOCK)


@pytest.mark.parametrize("version", PYTHONS)
def test_an_environment_keeps_its_python_until_another_is_asked_for(place, version):
    for each in PYTHONS:
        put(place, each)
    assert make(place, f"PYTHON=python{version}", ".venv").returncode == 0
    assert "-m venv" not in make(place, "-n", ".venv").stdout
    for path in place.glob("*.lock"):
        os.utime(path)
    assert taken(make(place, "-n", "test")) == (".venv/bin/python", *LOCK)
    other = next(each for each in PYTHONS if each != version)
    done = make(place, "-n", "test", f"PYTHON=python{other}")
    assert taken(done) == (f"python{other}", *LOCK) and "-m venv --clear .venv" in done.stdout


@pytest.mark.parametrize("words, said", [
    ((), "python3: it does not run"), (("PYTHON=python3.14",), "python3.14: no lock file was tested with Python 3.14")])
def test_a_python_without_a_tested_lock_is_one_line(place, words, said):
    put(place, "3.14")
    done = make(place, ".venv", *words)
    assert done.returncode and said in done.stderr.splitlines()[0] and not (place / ".venv").exists()


def test_tests_run_on_each_python_that_is_there_and_one_that_fails_fails_all(place):
    assert make(place, "test-python").returncode and "none of" in make(place, "test-python").stderr
    put(place, "3.11")
    put(place, "3.12", works="exit 1")
    put(place, "3.13", tests="1 failed, 6 passed in 2.00s", code=1)
    done = make(place, "test-python")
    assert done.returncode
    said = ["Python 3.11: 7 passed in 1.00s", "Python 3.13: 1 failed, 6 passed in 2.00s"]
    assert sorted(done.stdout.splitlines()) == said
    put(place, "3.13", tests="7 passed in 2.00s")
    shutil.rmtree(place / ".venv-3.13")
    assert make(place, "test-python").returncode == 0 and not (place / ".venv").exists()


# ---- the locks

def pins(path):
    lines = path.read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), path
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}


def test_the_locks_hold_the_same_packages_and_are_plain_lines():
    """Else a test would ask more of one than of another."""
    old, new = (pins(ROOT / name) for name in ("requirements.lock", "requirements-newest.lock"))
    assert new.keys() == old.keys()
    newest = pins(ROOT / "requirements-tpu-newest.lock")
    differ = {name for name in newest.keys() & new.keys() if newest[name] != new[name]}
    assert differ == {"absl-py"}  # held back by tensorflow-model-optimization


def test_the_lock_of_the_pairs_is_the_tested_one_with_three_packages_more_and_what_they_hold_back():
    old, pairs = pins(ROOT / "requirements.lock"), pins(ROOT / "requirements-pairs.lock")
    assert {pairs[name] for name in ("keras-hub", "transformers", "flaxmodels")} == {"0.32.0", "4.57.6", "0.1.3"}
    assert old.keys() < pairs.keys()
    assert {name for name in old if old[name] != pairs[name]} == {"huggingface-hub", "tokenizers"}


def test_pairs_of_others_have_an_environment_of_their_own(place):
    put(place, "3.13")
    done = make(place, "-n", "pairs", "SIZE=full")
    assert re.search(r"^python3.13 -m venv --clear .venv-pairs$", done.stdout, re.M), done.stderr
    assert done.stdout.splitlines()[-1] == ".venv-pairs/bin/python -m tests.pairs_real --size full"


def test_the_library_of_the_layouts_is_beside_what_is_tested(place):
    """Its packages are no others' pins, so that both files are one environment."""
    old, layouts = pins(ROOT / "requirements.lock"), pins(ROOT / "requirements-layouts.lock")
    assert {"torch", "transformers"} <= layouts.keys() and not old.keys() & layouts.keys()
    put(place, "3.13")
    done = make(place, "-n", "layouts", "ONLY=ViT")
    assert "install -q -r requirements.lock -r requirements-layouts.lock" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == ".venv-layouts/bin/python -m tests.layouts_real --only 'ViT'"


def test_what_a_compiled_peer_imports_is_beside_the_newest_compiler(place):
    """One libtpu compiles ours and the peer's, so that they are like for like."""
    newest, peers = pins(ROOT / "requirements-tpu-newest.lock"), pins(ROOT / "requirements-peers-tpu.lock")
    assert "maxtext" in peers and "libtpu" in newest and not newest.keys() & peers.keys()
    put(place, "3.12")
    done = make(place, "-n", "peers-tpu")
    assert re.search(r"^python3.12 -m venv --clear .venv-peers-tpu$", done.stdout, re.M), done.stderr
    assert "install -q --no-deps -r requirements-peers-tpu.lock" in done.stdout
    runs = re.findall(r"^\.venv-peers-tpu/bin/twinscale preflight (\S+) --topology (\S+) .*\\\n.*--peers maxtext-",
                      done.stdout, re.M)
    assert runs == [("recipes/tpu/decoder-1b.toml", "v5e:4x4"), ("recipes/tpu/decoder-8b.toml", "v5p:4x4x4")]


def test_the_package_says_the_pythons_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = [name.rpartition(" ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert said == list(PYTHONS) and project["requires-python"] == ">=3.11"


def test_an_environment_behind_a_link_is_not_written_to(place):
    """It may be another checkout's; made anew for another Python, it would be emptied."""
    put(place, "3.12")
    other = place / "other"
    (other / "bin").mkdir(parents=True)
    (other / "theirs").touch()
    (place / ".venv").symlink_to(other)
    done = make(place, ".venv")
    assert done.returncode == 2 and ".venv: is a link" in done.stderr and sorted(os.listdir(other)) == ["bin", "theirs"]


def test_a_notebook_is_executed_before_the_pages_are_made(place):
    """By the packages that are tested: those that make the pages have no framework."""
    put(place, "3.12")
    done = make(place, "-n", "docs")
    assert done.returncode == 0, done.stderr
    installed, executed, built = (re.search(pattern, done.stdout, re.M).start() for pattern in (
        r"^\.venv/bin/pip install -q -r requirements-notebook.lock$",
        r"^\.venv/bin/jupyter nbconvert .*--execute .*docs/two-files-to-the-first-parting.ipynb$",
        r"^\.venv-docs/bin/sphinx-build "))
    assert installed < executed < built
