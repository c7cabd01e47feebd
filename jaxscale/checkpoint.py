"""A run's checkpoints in Orbax's format, through its CheckpointManager; `common/training/checkpoints.py` knows which
are whole."""

import logging
import re
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as orbax

from twinscale.common.files.access import files_below, remove
from twinscale.common.files.run_files import STEPS

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs what it then raises, and raw contents of files


class Store:
    """The checkpoints in one directory, which all hosts share: each writes what its devices hold."""

    NAMES = STEPS["jax"]

    def __init__(self, path: Path, state: Any, devices: Any) -> None:
        # Directories made in the background would hang the process where the disk refuses them.
        background = orbax.AsyncOptions(create_directories_asynchronously=False)
        # It keeps all: retention is not its affair.
        options = orbax.CheckpointManagerOptions(step_prefix="step", async_options=background)
        self.path, self.hosts = path, devices.hosts
        self.manager = orbax.CheckpointManager(self.path, options=options)

    def write(self, step: int, state: Any) -> None:
        """Begins to save a state under its step; returns when the arrays are copied, and writes on in the
        background."""
        if self.hosts > 1:
            self.manager.reload()  # what the first host has removed since
        if not self.manager.save(step, args=orbax.args.StandardSave(state), force=True):
            raise OSError(f"Orbax does not save step {step}")

    def wait(self) -> None:
        """Until what was begun is on disk; raises what went wrong with it."""
        self.manager.wait_until_finished()

    def read(self, step: int, state: Any) -> Any:
        """The state saved under a step, lying as `state` does, wherever it lay."""
        like = jax.tree.map(orbax.utils.to_shape_dtype_struct, state)
        return self.manager.restore(step, args=orbax.args.StandardRestore(like))

    def files(self, step: int) -> list[Path]:
        """The files that hold a step."""
        path = self.path / f"step_{step}"
        return sorted(files_below(path)) if path.is_dir() else []

    def delete(self, step: int) -> None:
        """Removes a step, whole or half written."""
        for path in self.path.glob(f"step_{step}*"):
            if step_of(path) == step:
                remove(path)
        self.manager.reload()

    def close(self) -> None:
        """Ends what writes in the background."""
        self.manager.close()


def step_of(path: Path) -> int | None:
    """The step that a path belongs to, None where to none."""
    found = re.fullmatch(Store.NAMES, path.name)
    return int(found[1]) if found else None
