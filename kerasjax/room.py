"""What this backend gives to `common/training/loop.py` and its like: `jaxscale`'s, of the Keras program."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinscale.common.errors import BadInput
from twinscale.common.training.loop import run_training
from twinscale.common.training.room import Room
from twinscale.jaxscale import room
from twinscale.jaxscale import train as trainer
from twinscale.kerasjax import trace
from twinscale.kerasjax.framework import KERAS

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


class Training(room.Training):
    """The Room of a training: the Keras program on JAX."""

    backend = "keras-jax"
    new_state = staticmethod(partial(trainer.new_state, framework=KERAS))
    shared_tensors = staticmethod(trace.shared_tensors)

    @property
    def compressing(self) -> Room:
        """Raises BadInput: a compression's stages are of the other backends."""
        raise BadInput("Keras on JAX compresses nothing: TF-MOT is TensorFlow's. `twinscale compress RUN --backend "
                       "keras` goes on with its weights there, or --backend jax")


ROOM: Room = Training()


def train(recipe: "Recipe", run_dir: Path, **options: Any) -> dict[str, Any]:
    """Trains a recipe into a run directory; see `common.training.loop.run_training`."""
    return run_training(ROOM, recipe, run_dir, **options)
