"""What is predicted at each position, beside the sums that metrics are of: by it the worst examples are found."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from twinscale.common.metrics.base import added
from twinscale.common.metrics.scores import log_shares

DTYPES = {"best": np.int32, "loss": np.float32, "share": np.float32}


def of_classes(names: Iterable[str]) -> bool:
    """Whether `train.metrics` has one of classes: then evaluations have predictions to show."""
    return any(metric.classes for metric in added(names))


def rows_of(xp: Any, logits: Any, labels: Any) -> dict[str, Any]:
    """{"best": the class that is predicted, "share": its share, "loss": the label's cross-entropy in nats}, each in the
    shape of the labels; arguments as at `classification.statistics`."""
    shares = log_shares(xp, logits)
    own = xp.squeeze(xp.take_along_axis(shares, xp.expand_dims(labels, -1), axis=-1), axis=-1)
    return {"best": xp.argmax(logits, axis=-1), "share": xp.exp(xp.max(shares, axis=-1)), "loss": xp.negative(own)}


def handed(found: tuple[dict, dict], keep: Callable[[dict[str, np.ndarray]], Any] | None) -> dict:
    """The sums of (sums, rows) of a batch; its rows go to `keep`, as NumPy arrays, where somebody keeps them."""
    sums, rows = found
    if keep and rows:
        keep({name: np.asarray(x).astype(DTYPES[name]) for name, x in rows.items()})
    return sums
