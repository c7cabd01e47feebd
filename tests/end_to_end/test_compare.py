"""The verdict: two healthy backends agree, each planted porting error turns it, and what is wrong is refused early."""

import json

import pytest

from benchmarks import compare as comparison
from benchmarks.workers import Worker, each, open_workers
from common import cli
from common.data import open_dataset
from common.recipe import Recipe

MUTANTS = ("adam_epsilon", "norm_epsilon", "tanh_gelu", "decayed_biases", "late_schedule")
PLANTED = [(name, ("keras", "jax")[i % 2]) for i, name in enumerate(MUTANTS)]


@pytest.fixture(scope="module")
def recipe(corpus):
    """A tiny decoder with everything that a planted error needs: warm-up, decay, dropout, biases, exact GELU."""
    return Recipe.model_validate({
        "name": "tiny", "keras": {"jit_compile": False}, "jax": {"scan": True},
        "data": {"source": corpus, "sequence": 16, "held_out": 0.2},
        "model": {"family": "decoder", "layers": 1, "width": 16, "heads": 2, "dropout": 0.1},
        "optimizer": {"learning_rate": 1e-2, "weight_decay": 0.1, "clip_norm": 1.0},
        "schedule": {"kind": "cosine", "warmup": 3}, "train": {"steps": 8, "global_batch": 4},
        "compare": {"float64_steps": 8}})


@pytest.fixture(scope="module")
def healthy(recipe, tmp_path_factory):
    """The files of both backends, nothing planted."""
    out = tmp_path_factory.mktemp("healthy")
    with open_workers() as workers:
        each(workers, lambda worker: comparison.collect(recipe, worker, out))
    return out


def test_healthy_backends_agree_on_every_rung(recipe, healthy):
    found = comparison.judge(recipe, open_dataset(recipe), healthy)
    assert found["agrees"], found["sentence"]
    assert [rung["name"] for rung in found["rungs"]] == ["P0", "P2", "P3", "P4", "P5"]
    assert "block_0.attention.key.bias" in found["null_directions"]  # softmax does not see a shift of all keys
    assert {rung["name"]: "twin" in rung["bound_from"] for rung in found["rungs"]}["P5"]


@pytest.mark.parametrize(("mutant", "backend"), PLANTED)
def test_a_planted_porting_error_turns_the_verdict(recipe, healthy, mutant, backend, tmp_path):
    for folder in ("runs", "tensors"):
        (tmp_path / folder).mkdir()
        for path in (healthy / folder).iterdir():
            if backend not in path.name:
                (tmp_path / folder / path.name).symlink_to(path)
    worker = Worker(backend)
    try:
        worker.ask("plant", change=mutant)
        comparison.collect(recipe, worker, tmp_path)
    finally:
        worker.close()
    found = comparison.judge(recipe, open_dataset(recipe), tmp_path)
    failed = {rung["name"]: rung["worst"] / max(rung["bound"], 1e-300) for rung in found["rungs"] if not rung["agrees"]}
    assert not found["agrees"] and failed["P4"] > 1e3, failed
    assert ("P2" in failed) == (mutant in ("norm_epsilon", "tanh_gelu")), failed  # a wrong model, or a right one
    assert ("P3" in failed) == (mutant in ("adam_epsilon", "decayed_biases", "late_schedule")), failed


def test_a_finished_comparison_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "verdict.json").write_text(json.dumps({}))
    (tmp_path / comparison.MARKER).write_text("")
    (tmp_path / "r.toml").write_text('name = "r"\n[data]\nsource = "digits"\n[model]\nfamily = "mlp"\n')
    code = cli.main(["compare", str(tmp_path / "r.toml"), "--out", str(tmp_path)])
    assert code == 2 and "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "verdict.json").read_text() == "{}"


def test_a_directory_of_anything_else_is_never_emptied(tmp_path, capsys):
    keep = tmp_path / "out" / "runs" / "thesis.tex"  # "runs" is where a person's own trainings may be
    keep.parent.mkdir(parents=True)
    keep.write_text("years of work")
    (tmp_path / "r.toml").write_text('name = "r"\n[data]\nsource = "digits"\n[model]\nfamily = "mlp"\n')
    code = cli.main(["compare", str(tmp_path / "r.toml"), "--out", str(tmp_path / "out"), "--overwrite"])
    assert code == 2 and "not empty" in capsys.readouterr().err
    assert keep.read_text() == "years of work"
