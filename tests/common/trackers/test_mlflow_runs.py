"""MLflow in a database of SQLite beside the run: what is logged is there, and a run that goes on is one run."""

import pytest

from twinscale.common.recipe.file import load
from twinscale.common.trackers import following, log_verdict
from twinscale.common.training.run import open_run

mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


def client_of(folder):
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'trackers' / 'mlflow.db'}")


def runs_of(folder, recipe):
    client = client_of(folder)
    return client, client.search_runs([client.get_experiment_by_name(recipe.name).experiment_id])


@pytest.mark.slow  # it makes two databases, of many tables
def test_a_run_that_goes_on_is_one_run_and_a_verdict_keeps_its_files(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recipe, folder = load("mlp-digits", ['train.trackers=["mlflow"]']), tmp_path / "run"
    for start in (0, 2):
        with open_run(folder, recipe, "jax") as run:
            with following(recipe, run, start) as log:
                log(start, {"train/loss": 3.0 - start, "train/odd:name": 1.0})
                log(start + 1, {"train/loss": None})
            run.ending = "stopped"
    client, (found,) = runs_of(folder, recipe)
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history if metric.step in (0, 2)] == [(0, 3.0), (2, 1.0)]
    assert found.data.params["optimizer.learning_rate"] == "0.003" and found.info.status == "FINISHED"
    assert found.data.metrics["train/odd_name"] == 1.0 and found.info.run_name == "jax run"
    (tmp_path / "verdict.json").write_text("{}")
    log_verdict(recipe, tmp_path, {"agrees": 1.0}, [tmp_path / "verdict.json"])
    client, (verdict,) = runs_of(tmp_path, recipe)
    assert [file.path for file in client.list_artifacts(verdict.info.run_id)] == ["verdict.json"]
    assert verdict.data.metrics == {"agrees": 1.0} and {file.name for file in tmp_path.iterdir()} == {
        "run", "verdict.json", "trackers"}
