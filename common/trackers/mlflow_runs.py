"""MLflow: the store that MLFLOW_TRACKING_URI names, else a database of SQLite in the run's own directory."""

import logging
import os
import re
import time
from pathlib import Path

from twinscale.common.trackers.base import Handle, Subject, Tracker

OWN = "twinscale.id"  # the tag that holds the id of the training
ODD = re.compile(r"[^\w\-./ ]", re.ASCII)  # what MLflow takes in no name
PARAMS, LONGEST = 100, 6000  # of a batch, characters of a value
ENDED = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


def opened(subject: Subject) -> Handle:
    """The run whose tag has the training's id, or a new one."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    for name in ("mlflow", "alembic"):  # which importing it has set
        logging.getLogger(name).setLevel(logging.ERROR)

    folder, uri = subject.folder.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(subject.project)
    number = experiment.experiment_id if experiment else client.create_experiment(
        subject.project, artifact_location=None if uri else (folder / "mlflow").as_uri())
    found = client.search_runs([number], filter_string=f"tags.`{OWN}` = '{subject.id}'")
    run = found[0] if found else client.create_run(number, run_name=subject.name, tags={
        OWN: subject.id, "kind": ", ".join(subject.tags)})
    run_id = run.info.run_id
    if found:
        client.update_run(run_id, status="RUNNING")
    else:
        params = [Param(ODD.sub("_", key), str(value)[:LONGEST]) for key, value in subject.settings.items()]
        for first in range(0, len(params), PARAMS):
            client.log_batch(run_id, params=params[first:first + PARAMS])

    def log(step, metrics):
        now = int(1000 * time.time())
        client.log_batch(run_id, metrics=[Metric(ODD.sub("_", name), float(value), now, step)
                                          for name, value in metrics.items()])

    def keep(files: list[Path]) -> None:
        for file in files:
            client.log_artifact(run_id, str(file))

    return Handle(log, keep, lambda state, last: client.set_terminated(run_id, ENDED[state]))


MLFLOW = Tracker("MLflow", ("mlflow",), opened, ("mlflow", "mlflow.store.tracking.sqlalchemy_store"))
