"""Both backends compress one model: masks, quanta and trajectories agree, and what is spoiled by hand does not."""

import json
import shutil

import pytest

from twinscale.benchmarks.compression import compare as compression
from twinscale.benchmarks.compression import parity as compression_parity
from twinscale.benchmarks.compression import stages as compression_stages
from twinscale.common.compress.recipes import stage_recipe
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.file import load

pytestmark = [pytest.mark.usefixtures("hurried"), pytest.mark.slow]  # each room's stages are tested by themselves

STAGES = ('[{kind="prune", steps=12, every=4, end=8, learning_rate=1e-3}, '
          '{kind="quantize", steps=6, learning_rate=1e-3}]')


@pytest.fixture(scope="module")
def recipe():
    return load("recipes/mlp-digits.toml", ["train.steps=20", "schedule.warmup=2", f"compress.stages={STAGES}"])


@pytest.fixture(scope="module")
def compressed(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("compression") / "out"
    assert compression.compare_compression(recipe, out) == 0
    return out


class Idle:
    """A worker that has written its answers before."""

    def ask(self, *_, **__):
        return None


def test_both_backends_compress_alike(compressed):
    found = json.loads((compressed / "compression.json").read_text())
    assert found["agrees"] and all(rung["agrees"] for rung in found["rungs"])
    titles = [rung["title"] for rung in found["rungs"]]
    assert {"masks", "quanta", "numerics", "semantics", "metric", "contract"} == set(titles)
    rows = {(row["backend"], row["stage"]): row for row in found["rows"]}
    assert len(rows) == 6
    for backend in ("keras", "jax"):
        dense, pruned, small = (rows[backend, stage] for stage in ("dense", "1-prune", "2-quantize"))
        assert dense["kept"] == 1 and pruned["kept"] == pytest.approx(0.2, abs=0.01) == small["kept"]
        assert all(row["kept"] for row in small["verified"]) and len(small["verified"]) == 3
        assert small["bytes"] < dense["bytes"] and small["files"][0]["operators"]["products"]["int8"] == 3
        assert pruned["files"][0]["zipped_bytes"] < 0.5 * dense["files"][0]["zipped_bytes"]
        assert {"metric", "latency_ms", "mask_agreement", "quanta_differing"} <= pruned.keys()
        assert all(m["median_ms"] > 0 for row in (dense, pruned, small) for m in row["files"][0]["latency"])
    report = (compressed / "report.html").read_text()
    assert "1-prune" in report and len(report) < 2e6


def test_one_wrong_entry_of_a_mask_is_found(recipe, compressed, tmp_path):
    out, stage = tmp_path / "out", stage_recipe(recipe, 0)
    shutil.copytree(compressed, out)
    path = compression_stages.run_path(out, "jax", "1-prune") / "trace/final.safetensors"
    state = load_tensors(path)
    workers = {"keras": Idle(), "jax": Idle()}
    states = {b: load_tensors(compression_stages.run_path(out, b, "1-prune") / "trace/final.safetensors")
              for b in workers}
    assert compression_parity.masks_rung(stage, out, "1-prune", states, workers)[0]["agrees"]
    state["weights/head.kernel_mask"][3, 4] = 1 - state["weights/head.kernel_mask"][3, 4]
    save_tensors(path, state)
    rung, _ = compression_parity.masks_rung(stage, out, "1-prune", states, workers)
    assert not rung["agrees"] and rung["worst"] == 1 and "head.kernel at update 8" in rung["where"]


def test_two_quanta_apart_is_too_far(recipe, compressed, tmp_path, monkeypatch):
    out, stage = tmp_path / "out", stage_recipe(recipe, 1)
    shutil.copytree(compressed, out)
    monkeypatch.setattr(compression_parity, "each", lambda *_: None)
    assert compression_parity.quanta_rung(stage, out, "2-quantize", {})[0]["agrees"]
    trained = load_tensors(compression_stages.run_path(out, "keras", "2-quantize") / "trace/final.safetensors")
    low, high = trained["weights/head.range"]
    path = out / "tensors" / "2-quantize-quanta-jax.safetensors"
    made = load_tensors(path)
    made["head"][100] += 2 * (high - low) / 255
    save_tensors(path, made)
    rung, quanta = compression_parity.quanta_rung(stage, out, "2-quantize", {})
    assert not rung["agrees"] and quanta["differing"] >= 1 and 1.9 < quanta["worst"] < 2.1


@pytest.mark.slow
def test_a_comparison_that_was_cut_short_goes_on(recipe, compressed, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(compressed, out)
    (out / "compression.json").unlink()
    runs = [path for path in out.glob("runs/*/run.json") if "float64" not in path.parent.name]  # which start over
    before = {path: path.stat().st_mtime_ns for path in runs}
    monkeypatch.setattr(compression, "add_files", lambda *_: None)
    assert compression.compare_compression(recipe, out) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
