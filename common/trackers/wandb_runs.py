"""Weights & Biases: offline, into the run's own directory, unless WANDB_API_KEY is set; WANDB_MODE says otherwise."""

import os
from pathlib import Path

from twinscale.common.trackers.base import Handle, Subject, Tracker


def opened(subject: Subject) -> Handle:
    """A run of the id that the training has. Offline a part that goes on is a directory more, and `wandb sync` puts
    those of an id together."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    subject.folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    run = wandb.init(
        project=subject.project, name=subject.name, id=subject.id, dir=str(subject.folder), mode=mode,
        resume=None if mode == "offline" else "allow", config=dict(subject.settings), tags=list(subject.tags),
        settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True))

    def keep(files: list[Path]) -> None:
        artefact = wandb.Artifact(f"verdict-{subject.id[:12]}", "verdict")
        for file in files:
            artefact.add_file(str(file))
        run.log_artifact(artefact)

    def end(state, last):
        run.summary.update({"state": state})
        run.finish(exit_code=int(state == "failed"))

    return Handle(lambda step, metrics: run.log(dict(metrics), step=step), keep, end)


WANDB = Tracker("Weights & Biases", ("wandb",), opened, ("wandb",))
