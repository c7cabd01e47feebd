"""One update of a given state, taken apart: what each micro-batch weighs and gives by itself, what the step makes of
them, what the optimizer makes of a given gradient, and what the step tells and leaves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinscale.common.families.places import draws
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.schema import Recipe
from twinscale.common.training.room import Room
from twinscale.common.training.session import open_session
from twinscale.common.training.trace import at_point, batch_at, step_of


def whole_step(room: Room, recipe: Recipe, path: Path, point: str, teacher: Path | None = None) -> None:
    """Takes the step of a point, one of POINTS or the file of the state before a step, apart into the safetensors file
    `path`:

      "before/GROUP/NAME"                 what the step begins with
      "part I/weight", "part I/loss", "part I/gradients/NAME"
                                          sums of micro-batch I by itself, that of the summed loss
      "part I/running/NAME"               running statistics after it, in forward order
      "drawn N/loss", "drawn N/gradients/NAME"
                                          the mean loss, and the sum's gradients, with the random bits of step N in
                                          place of its own
      "total/loss", "total/gradients/NAME"
                                          as the step adds its micro-batches up: of the mean loss
      "uneven/gradients/NAME"             the same, where micro-batch I weighs `share(I)` of what it does
      "clipped/NAME", "update/GROUP/NAME" what clipping and one update make of a gradient: that of `teacher`, such a
                                          file of another backend, or the own one
      "told/METRIC", "after/GROUP/NAME"   what the step itself tells, and the state that it leaves
    """
    with room.numerics(recipe):
        session = open_session(room, recipe)
        number = step_of(point)
        batch, state = at_point(room, recipe, session, batch_at(recipe, session, point), point)
        tensors = {name: np.array(x) for name, x in room.state_tensors(state).items()}

        def begun(state, moved=()):
            return room.with_tensors(recipe, state, session.devices, tensors | dict(moved), number)

        found = {f"before/{name}": x for name, x in tensors.items()}
        more, state = parts_of(recipe, session, begun, state, number, batch)
        found |= more
        for kind, given in {"total": batch, "uneven": uneven_batch(batch, recipe.train.accumulate)}.items():
            more = session.step_tensors(begun(state), number, given)
            found |= {f"{kind}/{name}": np.array(x) for name, x in more.items() if name != "logits"}
        fed = load_tensors(teacher) if teacher else found
        fed = {name.removeprefix("total/gradients/"): np.array(x, np.float64) for name, x in fed.items()
               if name.startswith("total/gradients/")}
        found |= {f"clipped/{name}": x for name, x in room.clip_gradients(recipe, fed).items()}
        state = next(iter(room.apply_gradients(recipe, begun(state), session.devices, [fed])))
        found |= {f"update/{name}": np.array(x) for name, x in room.state_tensors(state).items()}
        state, metrics = session.step(begun(state), number, batch, (0, 0, 0))
        found |= {f"told/{name}": np.asarray(x) for name, x in metrics.items() if name != "signals"}
        found |= {f"after/{name}": np.array(x) for name, x in room.state_tensors(state).items()}
    save_tensors(path, found)


def parts_of(recipe: Recipe, session: Any, begun: Callable, state: Any, number: int, batch: Mapping[str, Any]
            ) -> tuple[dict[str, Any], Any]:
    """({"part I/...", "drawn N/..."} of `whole_step`, the state); `begun` puts what the step begins with into a
    state, but for what has moved."""
    count, found = recipe.train.accumulate, {}
    rows = len(batch["row"]) // count
    parts = [{name: x[i * rows:(i + 1) * rows] for name, x in batch.items()} for i in range(count)]
    running = {}
    for i, part in enumerate(parts):
        state = begun(state, running)
        taps = session.step_taps(state, number, part)
        found |= {f"part {i}/{name.removeprefix('loss/')}": np.array(x) for name, x in taps.items()
                  if name.startswith(("loss/", "gradients/", "running/"))}
        running = {name.replace("running/", "weights/", 1): np.array(x) for name, x in taps.items()
                   if name.startswith("running/")}
    if draws(recipe.model):
        state = begun(state)
        for other in sorted({0, max(number - 1, 0), number + 1} - {number}):
            taps = [session.step_taps(state, other, part) for part in parts]
            loss, weight = (sum(np.float64(t[f"loss/{what}"]) for t in taps) for what in ("loss", "weight"))
            found[f"drawn {other}/loss"] = np.array(loss / weight)
            found |= {f"drawn {other}/{name}": sum(np.array(t[name]) for t in taps) for name in taps[0]
                      if name.startswith("gradients/")}
    return found, state


def uneven_batch(batch: dict[str, Any], count: int) -> dict[str, Any]:
    """A batch whose `count` micro-batches weigh shares of what they do, as a real one's may by chance hardly differ."""
    rows = len(batch["weights"]) // count
    shares = np.repeat([share(i) for i in range(count)], rows).astype(batch["weights"].dtype)
    return batch | {"weights": batch["weights"] * shares.reshape(-1, *[1] * (batch["weights"].ndim - 1))}


def share(i: int) -> float:
    """Of its weight that micro-batch `i` has in an uneven batch. A power of two: its gradient is that part of what it
    was, to the last bit, in every precision."""
    return 1.0 if i % 2 == 0 else 0.5
