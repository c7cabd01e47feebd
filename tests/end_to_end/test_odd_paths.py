"""Runs at paths that TensorFlow and TensorStore take for patterns or not at all are saved, resumed and converted."""

import os
import shutil
from pathlib import Path

import numpy as np

from twinscale.common.files.tensors import load_tensors
from twinscale.common.training import canonical
from twinscale.common.training.loop import Probe, run_training
from twinscale.common.training.run import follow_run, read_run


def test_a_run_goes_on_from_its_own_checkpoint_whatever_its_path(name, room_of, recipe_of, tmp_path, monkeypatch):
    room = room_of(name)
    recipe = recipe_of("mlp", train={"steps": 4, "global_batch": 16})
    monkeypatch.chdir(tmp_path)
    odd = Path(os.fsdecode("a [b]* 漢字? \\c ".encode() + b"\xff"))
    beside = Path(os.fsdecode("a b! 漢字! \\c ".encode() + b"\xff"))  # which the pattern matches too
    (odd / "x").mkdir(parents=True)
    run_training(room, recipe, odd / "x" / ".." / "run", progress=False, probe=Probe(stop=2, resumable=True))
    shutil.copytree(odd / "run", beside / "run")
    for file in (beside / "run" / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(bytes(file.stat().st_size))
    run_training(room, recipe, odd / "x" / ".." / "run", progress=False)
    run_training(room, recipe, tmp_path / "plain", progress=False)
    for path in (odd / "run", tmp_path / "plain"):
        info = read_run(path)
        assert info["state"] == "finished" and info["saved"] == 4
        assert canonical.convert(room, recipe, follow_run(path), path.parent / f"final-{path.name}") == 4
    assert read_run(odd / "run")["starts"] == 2
    found, wanted = (load_tensors(path / "state.safetensors") for path in (odd / "final-run", Path("final-plain")))
    assert found.keys() == wanted.keys() and all(np.array_equal(found[key], x) for key, x in wanted.items())
