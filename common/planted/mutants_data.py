"""Errors of what data draw or weigh: hidden pieces, pairs of texts, mixtures, crops and classes. See `mutants.py`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np

from twinscale.common import losses
from twinscale.common.data import augment, batches, class_weights, masking, rand_augment
from twinscale.common.planted.planting import registry
from twinscale.common.planted.reach import changed_batches, changed_held_out
from twinscale.common.sources import MIXED

CHANGES, change = registry()


@change("hidden", "data", needs="hidden pieces")
def always_a_mask() -> Iterator[None]:
    """All that is to be predicted reads [MASK]: none stays, and none is another piece."""
    with patch.object(masking, "HIDDEN", 1.0):
        yield


@change("hidden", "data", needs="hidden pieces")
def hidden_once() -> Iterator[None]:
    """A row hides the same places at every step, as where masks are made with the data and not anew."""
    step_key = masking.step_key
    with patch.object(masking, "step_key", lambda key, step: step_key(key, 0)):
        yield


@change("hidden", "data", needs="hidden pieces")
def hidden_ends() -> Iterator[None]:
    """[CLS] and [SEP] are hidden and to be predicted as all other pieces are."""
    with special_too("masked"):
        yield


@change("hidden", "data", needs="word dropout")
def dropped_ends() -> Iterator[None]:
    """Word dropout takes [CLS] and [SEP] for words."""
    with special_too("dropped"):
        yield


@change("hidden", "evaluation", needs="hidden pieces")
def all_pieces_judged() -> Iterator[None]:
    """The held-out loss is one over all pieces, those that were not hidden too."""
    with changed_held_out(lambda batch: {"weights": batch["mask"].astype(np.float32)}):
        yield


@change("follows", "data", needs="pairs of halves")
def turned_pairs() -> Iterator[None]:
    """Class 1 is a text that follows, where BERT's 0 is."""
    with changed_batches(lambda batch: {"labels": 1 - batch["labels"]}):
        yield


@change("follows", "data", needs="pairs of halves")
def one_type() -> Iterator[None]:
    """The second text of a pair has the type of the first, as rows have that are tokenised one by one."""
    with changed_batches(lambda batch: {"types": np.zeros_like(batch["types"])}):
        yield


@change("residual", "loss", needs="mixtures")
def unmixed_labels() -> Iterator[None]:
    """Images are mixed, and the label is that of one of the two."""
    with patch.object(losses, "of_both", lambda xp, batch, cast, measure: measure(batch["labels"])):
        yield


@change("residual", "loss", needs="mixtures")
def turned_shares() -> Iterator[None]:
    """A label counts by the share of the other image."""
    of_both = losses.of_both

    def turned(xp, batch, cast, measure):
        return of_both(xp, {**batch, MIXED[1]: 1 - batch[MIXED[1]]}, cast, measure)

    with patch.object(losses, "of_both", turned):
        yield


@change("residual", "data", needs="mixtures")
def one_share() -> Iterator[None]:
    """All rows of a batch are mixed by one share, as in the paper's own program."""
    shares = augment.shares
    with patch.object(batches, "shares", lambda rows, *rest: shares(np.zeros_like(rows), *rest)):
        yield


@change("residual", "data", needs="operations at random")
def one_operation() -> Iterator[None]:
    """All images of a batch go through the same operations, as a layer has it that draws once for a batch."""
    rand = rand_augment.rand_augment
    with patch.dict(augment.CHOICES, {"rand-augment": (0, lambda images, bits, options: rand(
            images, np.repeat(bits[:1], len(bits), 0), options))}):
        yield


@change("residual", "data", needs="crops made larger")
def nearest_pixels() -> Iterator[None]:
    """What a crop takes out is made larger by the nearest pixels in place of between two."""
    def nearest(images, axis, side, start):
        size = images.shape[axis]
        place = np.floor(start[:, None] + (np.arange(size) + 0.5) * side[:, None] / size).astype(np.int64)
        along = [len(images), 1, 1, 1]
        along[axis] = size
        return np.take_along_axis(images, np.clip(place, 0, size - 1).reshape(along), axis)

    with patch.object(augment, "interpolated", nearest):
        yield


@change("adapted", "data", needs="classes that weigh")
def weights_of_one() -> Iterator[None]:
    """The weights of classes are scaled so that they add up to one."""
    with changed_factors(lambda factors: factors / factors.sum()):
        yield


@change("adapted", "evaluation", needs="classes that weigh")
def held_out_by_class() -> Iterator[None]:
    """What is held out weighs by its class too."""
    with changed_held_out(lambda batch: {"weights": batch["weights"] * (1 + batch["labels"]).astype(np.float32)}):
        yield


def special_too(name: str) -> AbstractContextManager[Any]:
    """One of the functions of (drawn, batch, bits) of `masking`, by its name, for which no piece is special."""
    function = getattr(masking, name)

    def changed(drawn, batch, bits):
        table = drawn.table._replace(special=np.zeros_like(drawn.table.special))
        return function(replace(drawn, table=table), batch, bits)

    chosen = [key for key, value in masking.CHOICES.items() if value is function]
    return patch.dict(masking.CHOICES, dict.fromkeys(chosen, changed)) if chosen else patch.object(
        masking, name, changed)


def changed_factors(function: Callable[[np.ndarray], np.ndarray]) -> AbstractContextManager[Any]:
    """Training examples whose classes weigh what a function of their factors (classes,) makes of them."""
    take = class_weights.Weighted.take
    return patch.object(class_weights.Weighted, "take", lambda self, indices: take(
        replace(self, factors=function(self.factors).astype(np.float32)), indices))
