"""A run whose data has changed neither goes on, nor ships, nor is gone on from; one whose files were touched does."""

import os

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.export import write as export
from twinscale.common.training import canonical
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import follow_run, read_run
from twinscale.common.training.run_metrics import read_metrics
from twinscale.jaxscale import export as exporter


@pytest.fixture
def documents(tmp_path):
    folder, rng = tmp_path / "corpus", np.random.default_rng(3)
    folder.mkdir()
    for i in range(24):
        (folder / f"{i:02}.txt").write_text(" ".join(rng.choice(["ape", "bear", "cat", "dog", "eel"], 30)))
    return folder


def content(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_is_bound_to_its_data(room_of, quickly, recipe_of, documents, tmp_path):
    room, run, state = room_of("jaxscale"), tmp_path / "run", tmp_path / "state"
    recipe = recipe_of("decoder", data={"source": f"text:{documents}/*.txt", "tokenizer": "bpe", "vocabulary": 280},
                       model={"layers": 1}, train={"steps": 6, "eval_every": 0, "log_every": 1})

    def train(run=run, stop=None, accept=False, begun=None):
        with quickly("jaxscale"):
            run_training(room, recipe, run, progress=False, begun=begun,
                         probe=Probe(stop=stop, resumable=stop is not None, accept_data=accept))

    train(stop=2)
    for file in documents.iterdir():
        os.utime(file, (1, 1))
    train(stop=3)
    canonical.convert(room, recipe, follow_run(run), state)
    tokenizer = (run / "data/tokenizer.json").read_bytes()

    for name in "abc":
        (documents / f"{name}.txt").write_text("zebra yak " * 40)
    before = content(run)
    refused = "3 of 27 files differ: a.txt (new), b.txt (new), c.txt (new)"
    for verb in (train, lambda: train(tmp_path / "next", begun=canonical.read(state, recipe)),
                 lambda: export.export(room, exporter, run, tmp_path / "export"),
                 lambda: export.export(room, exporter, state, tmp_path / "export")):
        with pytest.raises(BadInput) as error:
            verb()
        assert refused in str(error.value) and "--accept-data" in str(error.value)
    assert content(run) == before and not (tmp_path / "next").exists() and not (tmp_path / "export").exists()

    train(accept=True)
    info = read_run(run)
    assert info["state"] == "finished" and info["data_before"][0]["until"] == 3
    assert (run / "data/tokenizer.json").read_bytes() == tokenizer  # ids mean what they meant
    assert info["data"]["train"]["documents"] > info["data_before"][0]["train"]["documents"]
    assert [line["step"] for line in read_metrics(run) if "train/loss" in line] == list(range(6))
