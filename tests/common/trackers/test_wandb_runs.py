"""Weights & Biases offline: what is logged lies beside the run, each part under the training's id."""

import time

import pytest

from twinscale.common.recipe.file import load
from twinscale.common.trackers import following, log_verdict
from twinscale.common.training.run import open_run

pytest.importorskip("wandb", reason="the extra `wandb` is not installed")


def records(data):
    """The records of a log of LevelDB's: blocks of 32 KiB, in which parts have a checksum, a length and whether they
    are a whole record (1), its begin (2), middle (3) or end (4). The first 7 bytes are wandb's own."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4:at + 6], "little"), data[at + 6]
        parts += data[at + 7:at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def history(folder):
    """[{name: value as JSON}] of what was logged in the parts of a run, in their order."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for file in sorted((folder / "trackers" / "wandb").glob("offline-run-*/run-*.wandb")):
        for data in records(file.read_bytes()):
            record = Record.FromString(data)
            if record.HasField("history"):
                found.append({(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item})
            if record.HasField("artifact"):
                found.append({"files": sorted(entry.path for entry in record.artifact.manifest.contents)})
    return found


@pytest.mark.slow  # each part starts a process of wandb's
def test_a_run_goes_on_under_its_id_and_a_verdict_is_an_artefact(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    recipe, folder = load("mlp-digits", ['train.trackers=["wandb"]']), tmp_path / "run"
    for start in (0, 2):
        with open_run(folder, recipe, "jax") as run:
            with following(recipe, run, start) as log:
                log(start, {"train/loss": 3.0 - start})
            run.ending = "stopped"
    parts = list((folder / "trackers" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2 and all(part.name.endswith(run.info["id"]) for part in parts)
    logged = [(line["_step"], line["train/loss"]) for line in history(folder) if "train/loss" in line]
    assert sorted(logged) == [("0", "3"), ("2", "1")]
    (tmp_path / "verdict.json").write_text("{}")
    log_verdict(recipe, tmp_path, {"agrees": 1.0}, [tmp_path / "verdict.json"])
    for _ in range(100):  # wandb's process writes what it still holds
        if found := history(tmp_path):
            break
        time.sleep(0.1)
    assert {"files": ["verdict.json"]} in found
