"""Compiled programs: shared between processes while both live, never taken on trust, never in the way."""

import os
import subprocess
import sys

import pytest

from twinscale.benchmarks import compiled
from twinscale.benchmarks.compiled import OWN, Programs, files
from twinscale.common.machine import doctor


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "cache"))
    return {"XLA_FLAGS": ""}


def test_what_one_process_compiles_another_finds_while_both_live_and_later(given):
    one, other = Programs("jax", given), Programs("jax", given)
    (one.own / "step-cache").write_bytes(b"code")
    one.share()
    other.share()
    assert (other.own / "step-cache").read_bytes() == b"code"
    one.close(), other.close()
    late = Programs("jax", given)
    assert (late.own / "step-cache").read_bytes() == b"code" and not one.own.exists()


def test_who_has_taken_something_gives_what_it_compiles_too_and_asks_no_file_twice(given, monkeypatch):
    """What it had taken it tried to give back, which ended the giving, in every call again."""
    one = Programs("jax", given)
    (one.own / "step-cache").write_bytes(b"code")
    one.share()
    late, hashed = Programs("jax", given), []
    monkeypatch.setattr(compiled, "sha256", lambda path, sha256=compiled.sha256: hashed.append(path) or sha256(path))
    (late.own / "other-cache").write_bytes(b"more")
    for _ in range(3):
        late.share()
    assert {path.name.partition(".")[2] for path in files(late.store)} == {"step-cache", "other-cache"}
    assert hashed == [late.own / "other-cache"]


def test_two_that_compile_the_same_both_go_on(given):
    one, other = Programs("jax", given), Programs("jax", given)
    for each in (one, other):
        (each.own / "a-cache").write_bytes(b"same")
    one.share()
    (other.own / "b-cache").write_bytes(b"more")
    other.share()
    assert {path.name.partition(".")[2] for path in files(one.store)} == {"a-cache", "b-cache"}


def test_a_program_with_a_flipped_bit_is_thrown_away_and_never_read(given):
    one = Programs("jax", given)
    (one.own / "step-cache").write_bytes(b"code")
    one.share()
    [stored] = files(one.store)
    stored.unlink()
    stored.write_bytes(b"cede")
    late = Programs("jax", given)
    assert not (late.own / "step-cache").exists() and files(late.store) == []


def test_a_process_killed_while_it_writes_gives_nothing_half(given):
    one = Programs("jax", given)
    (one.own / "step-cache").write_bytes(b"half")  # and no call of it ended since
    one.close()
    assert files(one.store) == [] and not one.own.exists()


def test_other_flags_packages_or_backends_share_nothing(given, monkeypatch):
    stores = [Programs("jax", given).store, Programs("keras", given).store,
              Programs("jax", {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"}).store]
    monkeypatch.setattr(doctor, "_version", lambda package: "0")
    assert len({*stores, Programs("jax", given).store}) == 4


def test_the_oldest_go_where_there_is_too_much_and_so_do_folders_of_the_killed(given, monkeypatch):
    one = Programs("jax", given)
    for age, name in enumerate(("new", "old", "oldest")):
        (one.own / name).write_bytes(b"x" * 40)
        os.utime(one.own / name, (1e9 - age, 1e9 - age))
    one.share()
    os.utime(one.own, (1, 1))
    monkeypatch.setattr(compiled, "MOST", 100)
    late = Programs("jax", given)
    assert {path.name for path in files(late.own)} == {"new", "old"}
    assert [path.name for path in late.store.glob(f"{OWN}*")] == [late.own.name]


def test_what_the_user_has_set_stands_and_a_cache_that_cannot_be_written_is_no_fault(given, tmp_path, monkeypatch):
    theirs = {"JAX_COMPILATION_CACHE_DIR": "/mine", "TF_XLA_FLAGS": "--tf_xla_persistent_cache_directory=/mine"}
    assert compiled.stored_in(tmp_path, theirs)["JAX_COMPILATION_CACHE_DIR"] == "/mine"
    assert "TF_XLA_FLAGS" not in compiled.stored_in(tmp_path, theirs)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "file"))
    nothing = Programs("jax", given)
    nothing.share(), nothing.close()
    assert nothing.environment == {} and nothing.own is None


def test_jax_finds_a_program_under_any_folder(given):
    """Its key once held the folder's own path, which is another in each process: nothing was ever found."""
    program = "import jax; jax.jit(lambda x: x * 2 + 1)(jax.numpy.ones(7))"
    kept = []
    for _ in range(2):
        one = Programs("jax", given)
        quick = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        subprocess.run([sys.executable, "-c", program], env={**os.environ, **one.environment, **quick}, check=True)
        one.share()
        kept.append({path.name.partition(".")[2] for path in files(one.store)})
        one.close()
    assert kept[0] == kept[1] and any("lambda" in name for name in kept[0])
