import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from common.data import open_dataset, shards
from common.data.cache import cache_dir, cached
from common.errors import MissingEnvironment

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


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_small_shards_hold_the_same_stream(empty_cache, corpus, recipe, monkeypatch, tokenizer):
    asked = recipe(corpus(TEXTS), sequence=16, tokenizer=tokenizer, vocabulary=300)
    whole = open_dataset(asked)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    cut = open_dataset(asked)
    entries = cut.manifest["train"]["shards"]
    assert len(entries) > 3 and all(entry["tokens"] <= 500 for entry in entries)
    assert np.array_equal(content(whole), content(cut))
    everything = np.arange(len(whole.train))
    for name, value in whole.train.take(everything).items():
        assert np.array_equal(value, cut.train.take(everything)[name])


def test_a_cut_shard_is_built_again(empty_cache, corpus, recipe):
    asked = recipe(corpus(TEXTS), sequence=16)
    before = content(open_dataset(asked)).copy()
    shard = next(empty_cache.rglob("train-00000.npy"))
    os.truncate(shard, shard.stat().st_size - 2)
    assert np.array_equal(content(open_dataset(asked)), before)


def test_a_build_killed_half_way_leaves_nothing_that_is_read(empty_cache):
    program = ("import time; from common.data.cache import cached\n"
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
    program = ("import time; from common.data.cache import cached\n"
               "def build(folder):\n time.sleep(0.2); (folder / 'part').write_text('x' * 100_000)\n"
               "print(len((cached('thing', build) / 'part').read_text()))")
    racers = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [racer.communicate()[0] for racer in racers] == ["100000\n"] * 3
    assert [path.name for path in empty_cache.iterdir()] == ["thing"]


def test_a_cache_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TWINSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(MissingEnvironment, match="set TWINSCALE_CACHE"):
        cached("thing", lambda folder: None)


def test_the_manifest_pins_every_shard(empty_cache, corpus, recipe):
    open_dataset(recipe(corpus(TEXTS), sequence=16))
    manifest = json.loads(next(empty_cache.rglob("manifest.json")).read_text())
    assert manifest["dtype"] == "uint16"
    assert manifest["train"]["documents"] + manifest["held_out"]["documents"] == len(TEXTS)
    assert manifest["train"]["tokens"] == manifest["train"]["bytes"] + manifest["train"]["documents"]
    assert all(len(shard["sha256"]) == 64 for shard in manifest["train"]["shards"])


def test_the_standard_library_opens_warm_within_a_second(recipe):
    cold = open_dataset(recipe())
    start = time.perf_counter()
    warm = open_dataset(recipe())
    assert time.perf_counter() - start < 1
    assert warm.manifest == cold.manifest
    assert warm.manifest["train"]["documents"] > 400
