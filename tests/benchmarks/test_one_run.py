"""The page of one run, by what the run has left, whole or not."""

import json

import numpy as np
import pytest

from twinscale.benchmarks.one_run import POINTS, curves_of_run, report, reported, sentence
from twinscale.common.data import open_dataset
from twinscale.common.data.kept import keep
from twinscale.common.errors import BadInput
from twinscale.common.metrics import finish, finished, statistics, statistics_of, total
from twinscale.common.recipe.file import dumps
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.predictions import write_predictions

METRICS = ("report", "confusion", "calibration-15")
DIGITS = Recipe.model_validate({"name": "ten", "data": {"source": "digits"}, "model": {"family": "mlp", "hidden": [8]},
                                "train": {"steps": 40, "metrics": METRICS}})
INFO = {"schema_version": 1, "backend": "jax", "state": "finished", "starts": 1, "versions": {"jax": "0.10"},
        "devices": ["cpu:0"], "data": {}, "seconds": {"train": 61.0}, "final": {}}


def left(path, recipe, lines, **info):
    """What a training leaves in a directory."""
    path.mkdir()
    (path / "run.json").write_text(json.dumps(INFO | {"recipe_hash": recipe.hash} | info))
    (path / "recipe.toml").write_text(dumps(recipe))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(*steps, **values):
    return [{"step": step - 1, "train/loss": 2 / step} for step in range(10, 50, 10)] + [
        {"step": step - 1, "held_out/loss": 1.5 / step} | {f"held_out/{name}": value for name, value in values.items()}
        for step in steps]


@pytest.fixture(scope="module")
def digits():
    return open_dataset(DIGITS)


@pytest.fixture
def run(tmp_path, digits):
    """A run on digits at its end, which is sure of the right class but of every fourth row."""
    labels = digits.held_out.take(np.arange(len(digits.held_out)))["labels"]
    best = np.where(np.arange(len(labels)) % 4, labels, (labels + 1) % 10).astype(np.int32)
    logits, weights = 3 * np.eye(10)[best], np.ones(len(labels))
    sums = total([statistics(np, logits, labels, weights), statistics_of(METRICS, np, logits, labels, weights)])
    final = finish(sums, None) | finished(METRICS, sums, ())
    lines = lines_of(20, 40, accuracy=final["accuracy"], f1_macro=final["f1_macro"])
    path = left(tmp_path / "run", DIGITS, lines, sums=sums, final=final, saved=40, data=digits.manifest)
    keep(path, digits)
    loss = np.where(best == labels, 0.1, 3.1).astype(np.float32)
    loss[8] = 9.5
    write_predictions(path, [{"best": best, "share": np.full(len(best), 0.75, np.float32), "loss": loss}], len(best))
    return path


def edited(path, **info):
    told = json.loads((path / "run.json").read_text()) | info
    (path / "run.json").write_text(json.dumps({key: value for key, value in told.items() if value is not ...}))


def test_a_run_at_its_end_has_all_of_it(run, tmp_path, capsys):
    assert report(run, tmp_path / "out", as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["sentence"].startswith("ten, by JAX, was trained for all 40 steps. On the held-out set after step 40")
    assert "accuracy 0.7" in found["sentence"] and found["seconds"] == 61.0
    assert found["curves"]["loss"] == {"train": {"steps": [10, 20, 30, 40], "values": [0.2, 0.1, 2 / 30, 0.05]},
                                       "held_out": {"steps": [20, 40], "values": [0.075, 0.0375]}}
    task = found["task"]
    assert task["matrix"].keys() == {"jax"} and len(task["classes"]) == 10 and task["reliability"]["jax"]["count"]
    first = task["worst"][0]
    assert first["row"] == 8 and first["image"] and first["predicted"]["jax"] != first["label"]
    text = (tmp_path / "out" / "report.html").read_text()
    ids = ("learning", "held-out", "task", "reproduce")
    assert [f'id="{name}"' in text for name in ids] == [True] * 4 and text.count("<img ") == len(task["worst"]) == 12
    assert "In the order of the loss of the last" in text and "larger of both" not in text
    assert "source = &#34;digits&#34;" in text


def test_without_its_data_all_but_the_examples_is_there(run, tmp_path, capsys):
    edited(run, data=json.loads((run / "run.json").read_text())["data"] | {"sha256": "0" * 64})
    found = reported(run, tmp_path / "changed").task
    assert "no longer what the run began with" in found["lacking"] and "--accept-data" not in found["lacking"]
    assert "worst" not in found and found["matrix"]
    (run / "recipe.toml").write_text(dumps(DIGITS.with_values(data={"source": "idx:gone"})))
    assert report(run, tmp_path / "gone") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "The worst examples are not shown. They are of the data, which could not be read here: " in said
    for name in ("report.html", "report.md"):
        assert "They are of the data, which could not be read here" in (tmp_path / "gone" / name).read_text()


def test_without_predictions_the_page_says_who_leaves_them(run, tmp_path):
    (run / "predictions.safetensors").unlink()
    assert "no predictions" in reported(run, tmp_path / "out").task["lacking"]


def test_a_run_that_was_killed_has_a_page_of_what_it_came_to(run, tmp_path):
    edited(run, state="running", final={}, sums=..., saved=None)
    (run / "predictions.safetensors").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    found = reported(run, tmp_path / "early")
    assert (found.step, found.evaluated, found.held_out, found.task) == (30, None, {}, None)
    assert "has come to step 30 of 40: it still trains, or was killed" in found.sentence
    assert "Nothing has been evaluated yet" in (tmp_path / "early" / "report.md").read_text()
    (run / "metrics.jsonl").write_text("".join(lines[:2] + lines[4:5]))
    found = reported(run, tmp_path / "later")
    assert (found.step, found.evaluated) == (20, 20) and found.held_out["loss"] == 0.075
    (run / "metrics.jsonl").unlink()
    assert reported(run, tmp_path / "at-once").curves == {}
    assert 'id="learning"' not in (tmp_path / "at-once" / "report.html").read_text()


def test_a_run_of_text_has_curves_and_no_task(tmp_path):
    recipe = Recipe.model_validate({"name": "words", "model": {"family": "decoder"}, "train": {"steps": 50}})
    path = left(tmp_path / "run", recipe, lines_of(25, 40, perplexity=3.5), backend="keras", state="stopped", saved=40)
    found = reported(path, tmp_path / "out")
    assert found.curves.keys() == {"loss", "perplexity"} and found.task is None
    assert "by Keras, was asked to end after 40 of 50 steps" in found.sentence
    assert 'id="task"' not in (tmp_path / "out" / "report.html").read_text()


def test_what_fails_of_the_task_takes_nothing_else_along(run, tmp_path, capsys):
    edited(run, sums={"report.right.0": 1.0})
    found = reported(run, tmp_path / "out")
    assert found.failed.keys() == {"task"} and found.curves and "task failed" in capsys.readouterr().err
    assert "task failed" in (tmp_path / "out" / "report.html").read_text()


def test_a_page_is_replaced_only_when_asked(run, tmp_path):
    out = tmp_path / "out"
    reported(run, out)
    with pytest.raises(BadInput, match="--overwrite"):
        reported(run, out)
    (out / "mine.txt").write_text("mine")
    edited(run, state="failed", error="OSError: no")
    assert "failed after 40 of 40 steps (OSError: no)" in reported(run, out, overwrite=True).sentence
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(BadInput, match="not ours"):
        reported(run, run, overwrite=True)


def test_curves_are_thinned_and_keep_both_ends_and_what_was_not_finite():
    lines = [{"step": step, "train/loss": None if step == 0 else 1.0, "train/rate": 1.0} for step in range(5 * POINTS)]
    (name, of), = curves_of_run(lines).items()
    assert name == "loss" and of.keys() == {"train"} and len(of["train"]["steps"]) == POINTS
    assert (of["train"]["steps"][0], of["train"]["steps"][-1]) == (1, 5 * POINTS) and of["train"]["values"][0] is None
    assert curves_of_run([]) == {}


def test_the_sentence_says_why_a_run_ended():
    found = {"state": "finished", "step": 30, "steps": 90, "backend": "jax", "held_out": {"loss": None}, "error": None,
             "evaluated": 30, "recipe": {"name": "x"}}
    early = {"step": 30, "watch": "loss", "best": 0.5, "best_step": 10, "evaluations": 2}
    said = sentence(found, early)
    assert "ended early after step 30: loss was best after step 10" in said and "loss not finite" in said
    assert "was interrupted after 30 of 90 steps" in sentence(found | {"state": "interrupted"})
    with pytest.raises(BadInput, match="lost"):
        sentence(found | {"state": "lost"})
