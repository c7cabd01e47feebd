"""Evaluations: sums over rows, and a run's model once more on its held-out rows, on those for a test, on a file's, in
either backend."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twinscale.common.data import held_out_batches
from twinscale.common.data.evaluated import evaluated_on
from twinscale.common.data.kept import open_kept
from twinscale.common.metrics import finish, finished
from twinscale.common.recipe.schema import micro_batch

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.recipe.schema import Recipe
    from twinscale.common.training.pulse import Pulse
    from twinscale.common.training.room import Room


def evaluate_state(room: "Room", recipe: "Recipe", begun: Mapping[str, Any], on: str, accept: bool = False
                   ) -> tuple[dict[str, float], dict[str, float]]:
    """(metrics, the sums that they are of) of a state on some rows.

    Args:
      room: that computes them, whatever backend the state is of.
      begun: the state, as `common.training.canonical.read` gives it.
      on: which rows, as `common.data.evaluated.evaluated_on` has it.
      accept: take data that is no longer what it was.
    Raises BadInput where the rows cannot be read, or the data is no longer what it was.
    """
    with room.numerics(recipe):
        dataset = evaluated_on(recipe, open_kept(recipe, begun["kept"], accept), on)
        devices = room.open_devices(recipe)
        state = room.with_tensors(recipe, room.new_state(recipe, dataset, devices), devices, begun["tensors"],
                                  begun["step"])
        evaluate = room.make_evaluate(recipe, state, devices)
        sums, label_bytes = held_out_sums(evaluate, state, dataset, recipe)
    return finish(sums, label_bytes) | finished(recipe.train.metrics, sums,
                                                dataset.manifest.get("labels") or ()), sums


def held_out_sums(evaluate: Callable, state: Any, dataset: "Dataset", recipe: "Recipe", pulse: "Pulse | None" = None,
                  most: int | None = None) -> tuple[dict[str, float], int | None]:
    """(summed statistics, bytes of the labels or None where they are no text) over the whole held-out set, or over
    `most` batches of it: the remainder is padded with weight zero, never dropped."""
    label_bytes = None if dataset.token_bytes is None else 0

    def counted():
        nonlocal label_bytes
        for batch in held_out_batches(dataset, micro_batch(recipe), most):
            if label_bytes is not None:
                label_bytes += int((dataset.token_bytes[batch["labels"]] * batch["weights"]).sum())
            yield batch
            if pulse:
                pulse.allow("an evaluation's batch")

    return evaluate(state, counted()), label_bytes
