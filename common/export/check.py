"""Whether an exported format computes what the trainer's program does, on held-out rows.

Each is held to the trainer's program in the precision that it computes in, the training's or, of LiteRT, float32 or
8 bits. A difference is max |a - b| / max |b|; the bounds are

    float             4 x the trainer's program's own distance to float64 on the rows that are checked; at least
                      4 sqrt(K) eps of what sums are in, K values being the longest one
    LiteRT dynamic    D = |in 8 bits - in float32|, where a logit is within the range of the 8 bits: it rounds the same
                      weights, and activations no more coarsely
    LiteRT int8       D, and one step of the output's grid, from the trainer's program in 8 bits: integers may round as
                      much otherwise as 8 bits cost, and a logit may fall on the other side of a rounding
"""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.data.standard import standardised
from twinscale.common.errors import TwinscaleError, of_machine
from twinscale.common.export import hugging_face
from twinscale.common.export.formats import FORMATS
from twinscale.common.export.process import ask, failed
from twinscale.common.families.parameters import longest_sum, parameters
from twinscale.common.files.output import tell
from twinscale.common.files.tensors import difference, load_tensors, save_tensors
from twinscale.common.losses import sums_of
from twinscale.common.metrics import finish
from twinscale.common.numbers.formats import EPS, RESOLVED
from twinscale.common.objectives import described

if TYPE_CHECKING:
    from twinscale.common.data import Dataset
    from twinscale.common.training.room import Room

FEWEST, MOST, POSITIONS = 4, 256, 4096  # rows that are checked: so many positions, but no fewer and no more rows


def check(room: "Room", exporter: Any, about: dict[str, Any], dataset: "Dataset", model: Any, eight: Any, out: Path,
          work: Path) -> None:
    """Fills in "checked" of every row that was written."""
    rows = held_out_rows(dataset)
    save_tensors(work / "rows.safetensors", {"inputs": rows["inputs"]})
    known = outputs(room, exporter, model, eight, rows["inputs"])
    groups = {}
    for row in (row for row in about["formats"] if row["path"]):
        groups.setdefault(FORMATS[row["format"]].runtime, []).append(row["format"])

    def loaded(number, names):
        answers = work / f"answers-{number}.safetensors"
        errors = ask("twinscale.common.export.predict", out, work / "rows.safetensors", answers, *names)
        return {name: failed({"error": said}) if (said := errors[name]) else load_tensors(answers)[name]
                for name in names}

    def tried(number, names):
        try:
            return loaded(number, names)
        except (TwinscaleError, OSError, ValueError, KeyError) as error:
            if of_machine(error):
                raise
            return dict.fromkeys(names, error)

    with ThreadPoolExecutor(2) as pool:
        found = {}
        for answers in pool.map(tried, range(len(groups)), groups.values()):
            found |= answers
    for row in (row for row in about["formats"] if row["path"]):
        row["checked"] = judged(row["format"], model, eight, found[row["format"]], known, rows)
        if row["format"] == "safetensors":
            same = equal(hugging_face.read(model.recipe.model, out / row["path"]), model.tensors)
            row["checked"] |= {"bitwise": same, "agrees": row["checked"]["agrees"] and same}
        said = row["checked"]
        tell("export", f"{row['format']}: " + (f"cannot be loaded: {said['error']}" if said["error"] else
             f"{'agrees' if said['agrees'] else 'DOES NOT AGREE'}: worst {said['worst']:.1e}, "
             f"bound {said['bound']:.1e}"))


def held_out_rows(dataset: "Dataset") -> dict[str, np.ndarray]:
    """{"inputs", "labels", "weights"} of the first held-out rows, each as one document."""
    length = dataset.example_shape[0] if dataset.kind == "text" else 1
    count = min(len(dataset.held_out), max(FEWEST, min(MOST, POSITIONS // length)))
    batch = dataset.held_out.take(np.arange(count))
    if dataset.standard:
        batch["inputs"] = standardised(batch["inputs"], dataset.standard)
    return {name: batch[name] for name in ("inputs", "labels", "weights")}


def one_document(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """A batch as the trainers read it, of rows of one document each."""
    length = inputs.shape[1]
    return {"inputs": inputs, "positions": np.broadcast_to(np.arange(length, dtype=np.int32), (len(inputs), length)),
            "segments": np.zeros((len(inputs), length), np.int32), "row": np.arange(len(inputs), dtype=np.uint32)}


def outputs(room: "Room", exporter: Any, model: Any, eight: Any, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """{precision: logits} of the trainer's program: in the training's precision, float32 and float64, and where
    anything has 8 bits, "8 bits"."""
    def computed(what, recipe):
        with room.numerics(recipe):
            return exporter.logits(recipe, what.shape, what.tensors, inputs)

    own = model.recipe.train.precision
    known = {precision: computed(model, model.recipe.with_values(train={"precision": precision}))
             for precision in dict.fromkeys((own, "float32", "float64"))}
    return known | ({"8 bits": computed(eight, eight.recipe)} if eight else {})


def judged(name: str, model: Any, eight: Any, found: Any, known: Mapping[str, np.ndarray],
           rows: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What "checked" says of a format whose logits are `found`, an array or the error that came instead."""
    own = model.recipe.train.precision
    precision = "8 bits" if name == "litert-int8" else "float32" if name.startswith("litert") else own
    bound, source = bound_of(name, precision, model, eight, known)
    said = {"against": f"the trainer's program in {precision}", "rows": len(rows["inputs"]), "worst": math.inf,
            "bound": bound, "bound_from": source, "agrees": False, "error": None}
    if isinstance(found, Exception):
        return said | {"error": str(found).splitlines()[0]}
    if found.shape != known[own].shape:
        return said | {"error": f"its logits have shape {found.shape}, the trainer's {known[own].shape}"}
    worst = difference(found, known[precision])
    return said | {"worst": worst, "agrees": bool(worst <= bound < math.inf),
                   "predictions": float((found.argmax(-1) == known[own].argmax(-1)).mean()),
                   "loss": measured(model.recipe, found, rows),
                   "trainer_loss": measured(model.recipe, known[own], rows)}


def bound_of(name: str, precision: str, model: Any, eight: Any, known: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """(how far a format may be from the trainer's program in a precision, why)."""
    here = "the trainer's own program on these rows"
    if name in ("litert-dynamic", "litert-int8"):
        low, high = map(float, eight.tensors["head.range"])
        cost = difference(known["8 bits"], np.clip(known["float32"], low, high))
        source = f"what 8 bits cost {here}, but for logits out of their range"
        if name == "litert-dynamic":
            return cost, source
        step = (high - low) / 255 / float(np.abs(known["8 bits"]).max())
        return cost + step, f"{source}, and one step of the output's grid"
    wide = precision == "float64"
    noise = difference(known["float32" if wide else precision], known["float64"])
    if wide:  # there is nothing wider here to measure it by
        noise *= EPS["float64"] / EPS["float32"]
    longest, summed = longest_forward(model), "float64" if wide else "float32"
    return max((4 * noise, f"4 x what {precision} costs {here}"), (RESOLVED[precision], f"eps of {precision}"),
               (4 * math.sqrt(longest) * EPS[summed], f"4 sqrt({longest}) eps of {summed}"))


def longest_forward(model: Any) -> int:
    """Values that the longest sum of a forward pass adds up, those over positions and of a tied head among them."""
    recipe, shape = model.recipe, model.shape
    tree = parameters(recipe.model, shape.classes, shape.example_shape)
    return max(longest_sum(tree), *shape.example_shape[:1], getattr(recipe.model, "width", 0))


def measured(recipe: Any, logits: np.ndarray, rows: Mapping[str, np.ndarray]) -> float:
    """What evaluations call the loss, of logits on the rows."""
    sums = sums_of(described(recipe), np, recipe, logits.astype(np.float64), rows["labels"],
                   rows["weights"].astype(np.float64))
    return finish({name: float(x) for name, x in sums.items()})["loss"]


def equal(found: Any, wanted: Mapping[str, np.ndarray]) -> bool:
    """Whether tensors are the same bit for bit, by name."""
    return found.keys() == wanted.keys() and all(
        found[name].dtype == x.dtype and found[name].shape == x.shape and found[name].tobytes() == x.tobytes()
        for name, x in wanted.items())
