"""The rows that a source has for a test: the file for it beside those to train on and to hold out, or any such file."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinscale.common.data.arrays import Rows, with_labels
from twinscale.common.data.dataset import Dataset
from twinscale.common.data.labelled import pieces_of
from twinscale.common.data.parts import file_for_test
from twinscale.common.data.paths import is_file
from twinscale.common.errors import BadInput
from twinscale.common.families import family_of
from twinscale.common.files.access import shown
from twinscale.common.objectives import described
from twinscale.common.quality import Subset
from twinscale.common.sources import as_written, opened

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def evaluated_on(recipe: "Recipe", dataset: Dataset, on: str) -> Dataset:
    """The Dataset with other rows held out: "held_out" its own, "test" those of the test's file in the folder of
    `data.source`, or those of a file of the same kind by its path.

    Raises BadInput where the source has no such part, or a row has a label that the training did not know.
    """
    if on == "held_out":
        return dataset
    data, objective = recipe.data, described(recipe)
    if not opened(data)[0].labelled or dataset.tokenizer is None:
        raise BadInput(f"--on {shown(on)}: {as_written(data)} has no files in parts: labelled text of conll: and csv: "
                       "has; take --on held_out")
    scheme, _, argument = data.source.partition(":")
    file = file_for_test(Path(os.path.expanduser(argument))) if on == "test" else Path(os.path.expanduser(on))
    if on != "test" and not is_file(file, "give held_out, test or the path of a file", "--on "):
        raise BadInput(f"--on {shown(on)}: is a folder: give held_out, test or the path of a file")
    labels = labels_of(list(dataset.manifest.get("labels") or ()), data.tags != "plain")
    other = data.model_copy(update={"source": f"{scheme}:{file}", "labels": tuple(labels), "max_documents": 0,
                                    "quality": (), "subset": Subset()})
    found, _ = with_labels(pieces_of(other, objective, dataset.tokenizer.read_bytes()).arrays, objective,
                           as_written(other))
    if check := family_of(recipe.model).check:
        check(recipe.model, found, objective, as_written(other))
    return replace(dataset, held_out=Rows(found, np.arange(len(found["labels"]))))


def labels_of(names: Sequence[str], entities: bool) -> list[str]:
    """What `data.labels` says of classes with these names: of tags of entities their types."""
    types = [name.partition("-")[2] for name in names[1::2]]
    tags = ["O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]
    return types if entities and list(names) == tags else list(names)
