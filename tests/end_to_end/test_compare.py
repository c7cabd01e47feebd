"""The verdict: two healthy backends agree, and what is wrong is refused early. (test_audit.py plants errors.)"""

import json

import pytest

from twinscale.benchmarks import compare as comparison
from twinscale.benchmarks import compare_collect, compare_judge
from twinscale.benchmarks.workers import open_workers
from twinscale.common import cli
from twinscale.common.data import open_dataset
from twinscale.common.recipe.schema import Recipe


@pytest.fixture(scope="module")
def recipe(corpus):
    """A tiny decoder with warm-up, decay, clipping, dropout and biases."""
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
        collect = compare_collect.collect
        compare_collect.collect_places(workers, recipe, out, lambda worker: collect(recipe, worker, out))
    return out


def test_healthy_backends_agree_on_every_rung(recipe, healthy):
    found = compare_judge.judge(recipe, open_dataset(recipe), healthy)
    assert found["agrees"], found["sentence"]
    assert [rung["name"] for rung in found["rungs"]] == ["P0", "P1", "P2", "P3", "P4", "P5"]
    assert "block_0.attention.key.bias" in found["null_directions"]  # softmax does not see a shift of all keys
    assert {rung["name"]: "twin" in rung["bound_from"] for rung in found["rungs"]}["P5"]


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


@pytest.mark.slow  # 5 minutes
def test_a_convnet_agrees_in_float64_where_xla_rounds_what_twins_do_not_show(tmp_path):
    """By twins alone, 8 times as far apart as they are, it would not."""
    assert cli.main(["compare", "convnet-mnist5k", "train.steps=200", "train.precision=float64", "--out",
                     str(tmp_path / "out")]) == 0
    rungs = {rung["name"]: rung for rung in json.loads((tmp_path / "out" / "verdict.json").read_text())["rungs"]}
    loss = next(check for check in rungs["P4"]["checks"] if check["what"] == "float64 loss")
    assert loss["worst"] > 8 * loss["bound"] / float(loss["bound_from"].split()[0])
