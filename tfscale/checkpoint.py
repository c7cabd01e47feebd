"""Checkpoints of a run in TensorFlow's own format, through tf.train.CheckpointManager."""

import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from twinscale.common.errors import BadInput
from twinscale.common.files.access import place, remove, write_bytes
from twinscale.common.files.run_files import NEWEST, STEPS


class Store:
    """The checkpoints in one directory, each under its step; the first host alone writes them, every host reads."""

    NAMES = STEPS["keras"]

    def __init__(self, path: Path, state: Any, devices: Any) -> None:
        objects = {"optimizer": list(state.optimizer.variables), "averages": list(state.averages)}
        objects["weights"] = list(state.variables.values())
        self.values = {group: [v.value if isinstance(v, keras.Variable) else v for v in variables]
                       for group, variables in objects.items()}
        self.checkpoint = tf.train.Checkpoint(**self.values)
        self.path, self.writes = place(path), devices.host == 0
        self.thread = ThreadPoolExecutor(1, "checkpoint-files")
        self.begun: Future[None] | None = None
        self.copy: tf.train.Checkpoint | None = None

    def write(self, step: int, state: Any) -> None:
        """Begins to write the state under `step`, and returns when it is copied; hosts but the first return at once.
        One that was begun before is through first, and what went wrong with it is raised here."""
        if not self.writes:
            return
        self.wait()
        if self.copy is None:
            self.copy = tf.train.Checkpoint(**{group: [host_copy(v) for v in values]
                                               for group, values in self.values.items()})
        with tf.device("CPU:0"):
            for group, values in self.values.items():
                copies = [held for copy in getattr(self.copy, group) for held in variables_of(copy).values()]
                own = [v for value in values for v in variables_of(value).values()]
                for held, v in zip(copies, own, strict=True):
                    # Copied even where it lies there already: a compiled step may take a variable's memory.
                    held.assign(tf.raw_ops.DeepCopy(x=v.read_value()))
        self.begun = self.thread.submit(self.put, step)

    def put(self, step: int) -> None:
        """Writes the copy of a state. TensorFlow writes under a name of its own and renames at the end."""
        try:
            self.manager().save(checkpoint_number=step)
        except tf.errors.OpError as error:
            raise OSError(f"{self.path}: step {step} cannot be written: {error.message}") from None

    def wait(self) -> None:
        """Until what was begun is on disk. Raises OSError where it could not be written, once."""
        begun, self.begun = self.begun, None
        if begun:
            begun.result()

    def read(self, step: int, state: Any) -> Any:
        """The state of `step`. Raises OSError where it is missing or torn, BadInput where it is of another recipe."""
        prefix = str(self.path / f"step-{step}")
        try:
            self.checkpoint.restore(prefix).assert_consumed()
        except tf.errors.OpError as error:
            raise OSError(f"{prefix}: cannot be read: {error.message}") from None
        except (AssertionError, ValueError) as error:
            raise BadInput(f"{prefix}: holds another state than the recipe's: {str(error).splitlines()[0]}") from None
        return state

    def files(self, step: int) -> list[Path]:
        """The files that hold `step`, in order: none where it is missing."""
        return [path for path in self.of(step) if re.search(r"\.(index|data-\d+-of-\d+)$", path.name)]

    def delete(self, step: int) -> None:
        """Removes `step`, and what a kill has left of its writing; what is missing is missing."""
        if not self.writes:
            return
        for path in self.of(step):
            remove(path)
        self.relist()

    def close(self) -> None:
        """Ends the thread, once what it writes is on disk."""
        self.thread.shutdown()
        self.wait()

    def of(self, step: int) -> list[Path]:
        """All paths of `step`, the unfinished ones too."""
        return sorted(path for path in self.path.glob(f"step-{step}*") if step_of(path) == step)

    def manager(self) -> tf.train.CheckpointManager:
        """TensorFlow's manager of the copy, which deletes nothing, over what the directory holds now."""
        self.relist()
        return tf.train.CheckpointManager(self.copy, str(self.path), None, checkpoint_name="step")

    def relist(self) -> None:
        """Writes TensorFlow's list of checkpoints, which its other tools read, anew: it may be torn, and then the
        manager would not start."""
        steps = sorted(int(path.stem.removeprefix("step-")) for path in self.path.glob("step-*.index"))
        lines = [f'model_checkpoint_path: "step-{max(steps, default=0)}"',
                 *(f'all_model_checkpoint_paths: "step-{step}"' for step in steps), ""]
        if steps:
            write_bytes(self.path / NEWEST, "\n".join(lines).encode())
        else:
            (self.path / NEWEST).unlink(missing_ok=True)


def host_copy(like: Any) -> Any:
    """A variable in the host's memory of another's shape and dtype, kept for all saves: making one takes longer than
    copying it. Of what holds several variables, such as a range, something that holds as many by the same names."""
    held = variables_of(like)
    with tf.device("CPU:0"):
        made = {name: tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for name, v in held.items()}
    return made[""] if "" in made else tf.train.Checkpoint(**made)


def variables_of(value: Any) -> dict[str, tf.Variable]:
    """{name: variable} of what is saved as one, in the order of their names; a variable alone has none."""
    if isinstance(value, tf.Variable):
        return {"": value}
    return {name: v for name, v in sorted(vars(value).items()) if isinstance(v, tf.Variable)}


def step_of(path: Path) -> int | None:
    """The step that a path belongs to, None where to none."""
    found = re.fullmatch(Store.NAMES, path.name)
    return int(found[1]) if found else None
