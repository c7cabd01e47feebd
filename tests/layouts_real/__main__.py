"""`python -m tests.layouts_real`: whether small random models of the Hugging Face library, saved as it saves them, are
here what they are there: options by config.json, logits in both rooms in float64, tensors back bit for bit, and what is
written read by the library without a word. A line each."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ |= {"KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "JAX_ENABLE_X64": "1",
               "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
BOUND = 1e-12  # of the largest logit: 26 contractions of 64 terms are 208 eps, 5e-14, for each of two programs
WIDTHS = (30, 8, 9, 9, 9)


def main():
    words = argparse.ArgumentParser(prog="python -m tests.layouts_real", description=__doc__)
    words.add_argument("--only", metavar="NAME", help="models whose names have it")
    only = words.parse_args().only or ""
    import transformers

    from tests.layouts_real.models import MODELS

    print(f"transformers {transformers.__version__}")
    print(line("model", "tensors", "keras", "jax", "back", "what is not as it is there"), flush=True)
    wrong = sum(not one(name, *model) for name, model in MODELS.items() if only.lower() in name.lower())
    print("all as they are there" if not wrong else f"{wrong} are not")
    sys.exit(int(bool(wrong)))


def one(name, make, values, shape):
    """Whether a model is here what it is there; prints its line."""
    from tests.layouts_real.models import inputs_of, logits_of, moved

    with tempfile.TemporaryDirectory() as folder:
        theirs = moved(make())
        theirs.save_pretrained(Path(folder) / "theirs")
        batch, cells, notes = inputs_of(shape), {}, []
        wanted = logits_of(theirs.double(), batch)
        try:
            count, left = taken_from(Path(folder) / "theirs", values, shape)
            notes += left
            for backend in ("tfscale", "jaxscale"):
                found = forward(backend, Path(folder) / "theirs", values, shape, batch)
                cells[backend] = abs(found - wanted).max() / abs(wanted).max()
            notes += back(type(theirs), Path(folder), values, shape, (batch, wanted))
        except Exception as error:  # a line of the table, whatever it is
            print(line(name, "", "", "", "", f"{type(error).__name__}: {error}"), flush=True)
            return False
    print(line(name, count, *(f"{x:.1e}" for x in cells.values()), "differ" if notes else "equal", "; ".join(notes)),
          flush=True)
    return not notes and max(cells.values()) < BOUND


def recipe_of(folder, values, shape):
    """A recipe of the weights in a folder, on data that is not looked at."""
    from twinscale.common.recipe.schema import Recipe

    data = {"source": "random", "rows": 8, "inputs": {"ids": {"shape": [shape[0]], "below": 9}}} if values[
        "family"] == "encoder" else {"source": "digits" if len(shape) == 3 else "stdlib", "sequence": shape[0]}
    return Recipe.model_validate({
        "name": "x", "data": data, "model": {**values, "weights": str(folder)}, "keras": {"jit_compile": False},
        "train": {"precision": "float64", "global_batch": 2}})


def dataset_of(recipe, shape, classes):
    """What a model's builder reads of the data."""
    from twinscale.common.export.formats import Shape

    if recipe.model.family == "encoder":
        names = ("ids", "mask", "types") if recipe.model.types else ("ids", "mask")
        shape = tuple((name, (shape[0],), "int32") for name in names)
    return Shape(classes, shape)


def tensors_of(folder, values, shape):
    """(recipe, dataset, {canonical name: array}) of the weights in a folder."""
    from tests.layouts_real.models import CLASSES
    from twinscale.common.families.parameters import initial_values, parameters

    recipe = recipe_of(folder, values, shape)
    dataset = dataset_of(recipe, shape, CLASSES[recipe.model.family])
    tree = parameters(recipe.model, dataset.classes, dataset.example_shape)
    return recipe, dataset, initial_values(tree, 0, "float32")


def taken_from(folder, values, shape):
    """(how many tensors are the file's, what is not in one of the two)."""
    from twinscale.common.families.weights import taken

    recipe, dataset, tensors = tensors_of(folder, values, shape)
    from twinscale.common.families import family_of

    tree = family_of(recipe.model).tree(recipe.model, dataset.classes, dataset.example_shape)
    found = taken(recipe.model, tree)
    return len(found.values), [f"left: {name}" for name in found.left] + [f"fresh: {name}" for name in found.fresh]


def forward(backend, folder, values, shape, batch):
    """A backend's logits of a batch outside of training, float64."""
    import numpy as np

    recipe, dataset, tensors = tensors_of(folder, values, shape)
    wide = {name: x.astype(np.float64) for name, x in tensors.items()}
    if backend == "jaxscale":
        from twinscale.jaxscale.models import build, by_path, merge

        graph, variables = build(recipe, dataset.classes, dataset.example_shape)
        held = {path: v.replace(by_path(path, wide.__getitem__, recipe.model)) for path, v in variables.items()}
        return np.asarray(merge(graph, held)(batch, training=False))
    import keras

    from twinscale.tfscale.models import build, canonical_variables

    model = build(recipe, dataset.classes, dataset.example_shape, keras)
    for name, variable in canonical_variables(model).items():
        variable.assign(wide[name])
    return np.asarray(model({name: batch[name] for name in model.input}, training=False))


def back(kind, folder, values, shape, known):
    """What is not as it was, once the tensors are written as the library's directory and read by it."""
    from tests.layouts_real.models import logits_of
    from twinscale.common.export import hugging_face
    from twinscale.common.families.weights import BUFFERS, COUNTED
    from twinscale.common.files.tensors import load_tensors

    recipe, dataset, tensors = tensors_of(folder / "theirs", values, shape)
    notes, (batch, wanted) = [], known
    hugging_face.write(recipe, dataset, tensors, folder / "ours")
    before, after = (load_tensors(folder / name / "model.safetensors") for name in ("theirs", "ours"))
    known_ones = {name for name in before if not (BUFFERS.search(name) or name.endswith(COUNTED))}
    notes += [f"not written: {name}" for name in sorted(known_ones - after.keys())]
    notes += [f"not theirs: {name}" for name in sorted(after.keys() - known_ones)]
    notes += [f"other bytes: {name}" for name in sorted(known_ones & after.keys())
              if after[name].tobytes() != before[name].tobytes()]
    model, told = kind.from_pretrained(folder / "ours", output_loading_info=True)
    notes += [f"{what}: {name}" for what, names in told.items() for name in sorted(map(str, names))
              if not str(name).endswith(COUNTED)]
    if (logits_of(model.eval().double(), batch) != wanted).any():
        notes.append("the library computes another thing of what is written")
    return notes


def line(name, *cells):
    """A line of the table."""
    return "  ".join(str(cell).ljust(width) for cell, width in zip((name, *cells), (*WIDTHS, 0), strict=True)).rstrip()


if __name__ == "__main__":
    main()
