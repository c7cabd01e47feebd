"""What the positions of each class weigh in training, as `train.class_weights` says: the weights of the training
examples are multiplied, so that both backends are given the same. What is held out weighs what it did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common.errors import BadInput, did_you_mean, one_of

if TYPE_CHECKING:
    from twinscale.common.data.dataset import Dataset, Examples
    from twinscale.common.recipe.schema import Recipe


@dataclass(frozen=True)
class Weighted:
    """Examples whose positions weigh what they did times the weight of their class."""

    examples: Any
    factors: np.ndarray  # float32 (classes,)

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays (B, ...) of the examples, weights float32."""
        found = self.examples.take(indices)
        return found | {"weights": found["weights"] * self.factors[found["labels"]]}


def weighted(recipe: "Recipe", dataset: "Dataset") -> "Dataset":
    """A dataset whose training examples weigh by class. Raises BadInput where the recipe names a class that is none,
    or a weight is of a whole row of positions, which have each a class."""
    asked = recipe.train.class_weights
    if asked == "none":
        return dataset
    labels, weights = judged(dataset.train)
    if weights.shape != labels.shape:
        raise BadInput(f"train.class_weights: the data weigh whole rows {weights.shape}, and labels {labels.shape} are "
                       "of their positions: give a weight for each label")
    names = dataset.manifest.get("labels") or ()
    factors = (named(asked, names, dataset.classes) if isinstance(asked, Mapping) else
               one_of(BY, asked, "train.class_weights")(labels[weights > 0], dataset.classes))
    return replace(dataset, train=Weighted(dataset.train, factors.astype(np.float32)))


def judged(examples: "Examples") -> tuple[np.ndarray, np.ndarray]:
    """(labels, weights) of all examples, whose other arrays are left where they lie."""
    rows: Any = examples
    held = rows.arrays if hasattr(rows, "arrays") else {"labels": rows.labels}
    labels = held["labels"][rows.members]
    return labels, held["weights"][rows.members] if "weights" in held else np.ones(len(labels), np.float32)


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) n / (k n_c) of n labels (n,) of which n_c are of class c, where k classes are there at all, as
    scikit-learn's "balanced" is; 1 of a class that is not there."""
    counts = np.bincount(labels.reshape(-1), minlength=classes)
    return np.where(counts > 0, counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 1.0)


def named(asked: Mapping[str, float], names: Sequence[str], classes: int) -> np.ndarray:
    """(classes,) the weights of classes by their names or numbers, 1 where none is asked for."""
    known = {**{str(i): i for i in range(classes)}, **{name: i for i, name in enumerate(names)}}
    factors = np.ones(classes)
    for key, weight in asked.items():
        if key not in known:
            near = did_you_mean(key, known) or f": there are {', '.join(list(known)[-classes:][:6])}"
            raise BadInput(f'train.class_weights: "{key}": no class of the data is called so{near}')
        factors[known[key]] = weight
    return factors


BY = {"balanced": balanced}
