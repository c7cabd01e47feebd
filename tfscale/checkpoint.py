"""Checkpoints of a run in TensorFlow's own format, through tf.train.CheckpointManager."""

import keras
import tensorflow as tf


class Checkpoints:
    """The checkpoints of one run directory; the position in the data is the step."""

    def __init__(self, path, state, keep):
        objects = {"optimizer": list(state.optimizer.variables), "averages": list(state.averages)}
        objects["weights"] = list(state.variables.values())
        values = {group: [v.value if isinstance(v, keras.Variable) else v for v in variables]
                  for group, variables in objects.items()}
        self.checkpoint = tf.train.Checkpoint(**values)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(path), keep, checkpoint_name="step")

    def restore(self, state):
        """The state of the newest checkpoint, or the state as given where there is none."""
        if self.manager.latest_checkpoint:
            self.checkpoint.restore(self.manager.latest_checkpoint).assert_consumed()
        return state

    def save(self, state):
        """Saves the state under its step; returns when it is on disk."""
        self.manager.save(checkpoint_number=state.step)

    def close(self):
        """Nothing is pending: saves are synchronous."""
