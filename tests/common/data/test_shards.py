"""Tokens in shards."""

import json
import os

import numpy as np
import pytest

from twinscale.common.data import open_dataset, shards

TEXTS = [f"document {i} " * (i + 5) for i in range(60)]


def content(dataset):
    return np.concatenate([dataset.train.tokens.gather(np.arange(len(dataset.train.tokens)))])


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


def cut(folder):
    shard = folder / "train-00000.npy"
    os.truncate(shard, shard.stat().st_size - 2)


def test_the_manifest_pins_every_shard(empty_cache, corpus, recipe):
    open_dataset(recipe(corpus(TEXTS), sequence=16))
    manifest = json.loads(next(empty_cache.rglob("manifest.json")).read_text())
    assert manifest["dtype"] == "uint16"
    assert manifest["train"]["documents"] + manifest["held_out"]["documents"] == len(TEXTS)
    assert manifest["train"]["tokens"] == manifest["train"]["bytes"] + manifest["train"]["documents"]
    assert all(len(shard["sha256"]) == 64 for shard in manifest["train"]["shards"])
