import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from twinscale.common.data import cache, open_dataset, shards
from twinscale.common.data.cache import cache_dir, cached
from twinscale.common.errors import MissingEnvironment
from twinscale.common.files import output

TEXTS = [f"document {i} " * (i + 5) for i in range(60)]


def content(dataset):
    return np.concatenate([dataset.train.tokens.gather(np.arange(len(dataset.train.tokens)))])


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("TWINSCALE_CACHE")
    assert cache_dir().parts[-2:] == (".cache", "twinscale")


def test_a_warm_cache_builds_nothing_and_a_changed_file_is_read_again(empty_cache, corpus, recipe, monkeypatch):
    source = corpus(TEXTS)
    cold = open_dataset(recipe(source, sequence=16))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "build", lambda *_: pytest.fail("built twice"))
        warm = open_dataset(recipe(source, sequence=16))
    assert warm.manifest == cold.manifest
    assert np.array_equal(content(warm), content(cold))
    path = next((empty_cache.parent / "corpus").iterdir())
    path.write_text(path.read_text() + "more")
    assert open_dataset(recipe(source, sequence=16)).manifest["sha256"] != cold.manifest["sha256"]


def flipped(folder):
    shard = folder / "train-00000.npy"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)


def swapped(folder):
    ids = np.load(folder / "train-00000.npy")
    np.save(folder / "train-00000.npy", ids[::-1])


def cut(folder):
    shard = folder / "train-00000.npy"
    os.truncate(shard, shard.stat().st_size - 2)


def led_away(folder):
    """Its first shard is another file of the machine, and the seal says that this is right."""
    shard, manifest = folder / "train-00000.npy", json.loads((folder / "manifest.json").read_text())
    away = shard.rename(folder.parent / "away.npy")
    manifest["train"]["shards"][0]["file"] = f"../{away.name}"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / cache.SEAL).write_text(json.dumps(cache.sealed(folder)))


def old_seal(folder):
    (folder / cache.SEAL).write_text(json.dumps({name: about.st_size for name, about in cache.regular(folder).items()}))


def other_counts(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["train"]["shards"][0]["tokens"] = 10**30
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / cache.SEAL).write_text(json.dumps(cache.sealed(folder)))


def a_pipe(folder):
    (folder / "train-00000.npy").unlink()
    os.mkfifo(folder / "train-00000.npy")


@pytest.mark.parametrize("damage", [
    flipped, swapped, cut, led_away, old_seal, other_counts, a_pipe, lambda folder: (folder / "more.npy").touch(),
    lambda folder: (folder / "manifest.json").unlink(), lambda folder: (folder / cache.SEAL).write_text("[" * 9999)])
def test_what_is_broken_is_built_again_and_said(empty_cache, corpus, recipe, capsys, damage):
    asked = recipe(corpus(TEXTS), sequence=16)
    before = content(open_dataset(asked)).copy()
    assert capsys.readouterr().err == ""
    folder = next(empty_cache.glob("tokens-*"))
    damage(folder)
    assert np.array_equal(content(open_dataset(asked)), before)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{folder} is broken (" in said and "it is made again" in said
    assert np.array_equal(content(open_dataset(asked)), before) and capsys.readouterr().err == ""


def test_images_and_vocabularies_are_sealed_too(empty_cache, corpus, recipe, capsys):
    image, text = recipe("digits", held_out=0.1), recipe(corpus(TEXTS), sequence=8, tokenizer="bpe", vocabulary=300)
    before = open_dataset(image).manifest, open_dataset(text).manifest
    for name, old, new in (("images-*/labels.npy", b"\x01", b"\x02"), ("bpe-*/tokenizer.json", b'"e"', b'"f"')):
        file = next(empty_cache.glob(name))
        file.write_bytes(file.read_bytes().replace(old, new))
    assert (open_dataset(image).manifest, open_dataset(text).manifest) == before
    assert capsys.readouterr().err.count("it is made again") == 2


def test_a_process_hashes_a_file_once_and_again_when_it_was_touched(empty_cache, monkeypatch):
    folder = cached("thing", lambda folder: (folder / "part").write_text("whole"))
    hashed, sha256 = [], cache.sha256
    monkeypatch.setattr(cache, "sha256", lambda path: hashed.append(path) or sha256(path))
    cache.HASHED.clear()
    for _ in range(3):
        assert cached("thing", lambda _: pytest.fail("built twice")) == folder
    assert len(hashed) == 1
    (folder / "part").write_text("whole")
    cached("thing", lambda _: pytest.fail("built twice"))
    assert len(hashed) == 2


def test_a_link_in_the_place_of_a_folder_is_replaced_and_not_followed(empty_cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "part").write_text("a user's")
    empty_cache.mkdir()
    (empty_cache / "thing").symlink_to(tmp_path / "mine")
    folder = cached("thing", lambda folder: (folder / "part").write_text("whole"))
    assert (folder / "part").read_text() == "whole" and (tmp_path / "mine" / "part").read_text() == "a user's"


def test_a_build_killed_half_way_leaves_nothing_that_is_read(empty_cache):
    program = ("import time; from twinscale.common.data.cache import cached\n"
               "def build(folder):\n (folder / 'part').write_text('half'); print('there', flush=True); time.sleep(60)\n"
               "cached('thing', build)")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (empty_cache / "thing").exists()
    folder = cached("thing", lambda folder: (folder / "part").write_text("whole"))
    assert (folder / "part").read_text() == "whole"


def test_a_build_that_fails_leaves_no_file(empty_cache):
    with pytest.raises(ZeroDivisionError):
        cached("thing", lambda folder: (folder / "part").write_text(str(1 / 0)))
    assert list(empty_cache.iterdir()) == []


def test_processes_that_race_all_read_one_whole_folder(empty_cache):
    program = ("import time; from twinscale.common.data.cache import cached\n"
               "def build(folder):\n time.sleep(0.2); (folder / 'part').write_text('x' * 100_000)\n"
               "print(len((cached('thing', build) / 'part').read_text()))")
    racers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [racer.communicate()[0] for racer in racers] == ["100000\n"] * 3
    assert [path.name for path in empty_cache.iterdir()] == ["thing"]


def test_of_processes_that_race_one_builds_and_none_takes_away_what_another_reads(empty_cache):
    """Each holds on to what it was given, by name, while the others come: one that came late took it away once."""
    program = ("import sys, time; from twinscale.common.data.cache import cached\n"
               "def build(folder):\n print('built', flush=True); time.sleep(0.1); (folder / 'part').write_text('x')\n"
               "folder = cached('thing', build)\n"
               "for _ in range(40): (folder / 'part').read_text(); time.sleep(0.01)")
    for _ in range(3):
        racers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
                  for _ in range(4)]
        said = [racer.communicate()[0] for racer in racers]
        assert [racer.returncode for racer in racers] == [0] * 4 and sorted(said) == [""] * 3 + ["built\n"]
        (empty_cache / "thing" / "part").write_text("broken")
        (empty_cache / "thing" / "files.json").write_text("{}")


def test_a_folder_that_is_replaced_is_never_half_there(empty_cache, monkeypatch):
    """Whoever looks while files are deleted finds all of the new ones: a half whose seal is empty would pass for whole.
    """
    def build(folder):
        [(folder / name).write_text("whole") for name in "abc"]

    seen, unlink = [], os.unlink
    folder = cached("thing", build)
    (folder / cache.SEAL).write_text("{}")
    monkeypatch.setattr(os, "unlink", lambda *path, **how: seen.append(set(os.listdir(folder))) or unlink(*path, **how))
    cached("thing", build)
    assert len(seen) >= 4 and all(names == {"a", "b", "c", cache.SEAL} for names in seen)


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(MissingEnvironment, match="set TWINSCALE_CACHE"):
        cached("thing", lambda folder: None)


def test_the_standard_library_opens_warm_within_a_second(recipe):
    cold = open_dataset(recipe())
    start = time.perf_counter()
    warm = open_dataset(recipe())
    assert time.perf_counter() - start < 1
    assert warm.manifest == cold.manifest
    assert warm.manifest["train"]["documents"] > 400


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    assert list(output.counted("ab", 2, "letters are read")) == ["a", "b"] and capsys.readouterr().err == ""
    monkeypatch.setattr(output, "EVERY", -1)
    assert list(output.counted("ab", 2, "letters are read")) == ["a", "b"]
    assert "1 of 2 letters are read" in capsys.readouterr().err
