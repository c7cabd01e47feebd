"""F1 of entities under a paired test over held-out sentences: is what two trained models differ by in F1 within a
margin, for sentences such as these?

Of n sentences with r right, p predicted and l labelled entities F = 2 sum(r) / sum(p + l). As a function of the mean
counts it has the influence (Hampel 1974, J. Am. Stat. Assoc. 69, 383) of a sentence

    u_i = (2 r_i - F (p_i + l_i)) / mean(p + l),      whose mean is 0,

and F varies with the sentences as a mean of u does, up to terms of the order of 1 / n: the infinitesimal jackknife
(Efron 1982, chapter 6). Both models read the same sentences, so that what they share of easy and hard ones cancels in

    d_i = F_a - F_b + u_i^a - u_i^b,                  whose mean is F_a - F_b,

which are tested as the seeds' differences are (`benchmarks/rungs/outcome.py`). It says what the choice of held-out
sentences leaves open, which is no program's doing: it is told, and not judged.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.benchmarks.rungs.outcome import equivalence

if TYPE_CHECKING:
    from twinscale.common.data import Dataset


def entities_of(tags: Sequence[int]) -> set[tuple[int, int, int]]:
    """{(type, first word, word behind the last)} of a sentence's tags, by their numbers: O, and B- and I- of each type.
    An I- that continues nothing begins an entity, as `common.metrics.entities` has it."""
    found, kind, start = set(), 0, 0
    for at, tag in enumerate([*tags, 0]):
        own = (int(tag) + 1) // 2
        if tag and tag % 2 == 0 and own == kind:
            continue
        if kind:
            found.add((kind, start, at))
        kind, start = own, at
    return found


def counts_of(labels: np.ndarray, best: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Numbers of entities that are right, predicted and labelled in each sentence, float64 (sentences, 3).

    Args:
      labels, best: tags by number, (sentences, length).
      weights: the same shape; what weighs nothing is no word.
    """
    found = []
    for own, other, weight in zip(labels, best, weights, strict=True):
        told, predicted = (entities_of(tags[weight > 0].tolist()) for tags in (own, other))
        found.append((len(told & predicted), len(predicted), len(told)))
    return np.array(found, np.float64).reshape(-1, 3)


def f1_of(counts: np.ndarray) -> tuple[float, np.ndarray]:
    """(F1 of all sentences, the influence of each), of counts (sentences, 3); 0 where there is no entity at all."""
    right, both = counts[:, 0], counts[:, 1] + counts[:, 2]
    if not both.sum():
        return 0.0, np.zeros(len(counts))
    f1 = 2 * right.sum() / both.sum()
    return float(f1), (2 * right - f1 * both) / both.mean()


def paired(first: np.ndarray, second: np.ndarray, margin: float) -> dict[str, Any]:
    """What `outcome.equivalence` says of F1 by counts (sentences, 3) of two models; its "seeds" are sentences. Raises
    BadInput for fewer than two."""
    (a, of_a), (b, of_b) = f1_of(first), f1_of(second)
    return equivalence(a - b + of_a - of_b, margin)


def paired_of(dataset: "Dataset", predictions: Mapping[str, Mapping[str, np.ndarray]], margin: float
              ) -> dict[str, Any] | None:
    """The same by the predictions of two runs on a data set's held-out sentences; None where they are of other rows."""
    rows = len(dataset.held_out)
    if rows < 2 or len(predictions) != 2 or any(x["best"].ndim != 2 or len(x["best"]) != rows
                                                for x in predictions.values()):
        return None
    held_out = dataset.held_out.take(np.arange(rows))
    first, second = (counts_of(held_out["labels"], x["best"], held_out["weights"]) for x in predictions.values())
    return paired(first, second, margin)
