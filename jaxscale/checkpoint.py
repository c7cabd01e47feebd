"""Checkpoints of a run in Orbax's format, through its CheckpointManager."""

import jax
import orbax.checkpoint as orbax


class Checkpoints:
    """The checkpoints of one run directory; the position in the data is the step."""

    def __init__(self, path, state, keep):
        options = orbax.CheckpointManagerOptions(max_to_keep=keep, step_prefix="step")
        self.manager = orbax.CheckpointManager(path.absolute(), options=options)

    def restore(self, state):
        """The state of the newest checkpoint, or the state as given where there is none."""
        if self.manager.latest_step() is None:
            return state
        like = jax.tree.map(orbax.utils.to_shape_dtype_struct, state)
        return self.manager.restore(self.manager.latest_step(), args=orbax.args.StandardRestore(like))

    def save(self, state):
        """Saves the state under its step; returns when the arrays are copied, and writes on in the background."""
        self.manager.save(int(state.step), args=orbax.args.StandardSave(state))

    def close(self):
        """Waits until everything is on disk."""
        self.manager.wait_until_finished()
        self.manager.close()
