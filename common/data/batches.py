"""Batches as dicts of NumPy arrays: training in its order, each with a hash; the held-out set from end to end."""

import hashlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from twinscale.common.data.arrays import ADDED, JUDGED
from twinscale.common.data.augment import augment, mates, shares
from twinscale.common.data.dataset import Dataset
from twinscale.common.data.masking import in_evaluation, in_training
from twinscale.common.data.order import examples, rows
from twinscale.common.data.standard import standardised
from twinscale.common.errors import BadInput
from twinscale.common.families import family_of, reads_arrays, reads_text
from twinscale.common.families.places import draws
from twinscale.common.recipe.schema import Recipe, master_dtype
from twinscale.common.sources import MIXED, MIXUP

AHEAD = 3  # batches made before they are asked for
PLANNED = 1024  # rows ordered in one go
DRAWN = {"row": ((None,), "uint32"), "key": ((2,), "uint32")}  # what a model that draws bits reads besides

Numbered = tuple[int, dict[str, np.ndarray], str]  # a step, its batch and the batch's SHA-256


def training_batches(dataset: Dataset, recipe: Recipe, start: int, stop: int, *, host: int = 0, hosts: int = 1,
                     permuted: bool = False) -> Generator[Numbered, None, None]:
    """Iterator of (step, batch, SHA-256 of the batch) over steps [start, stop), made ahead by a thread.

    A batch is this host's part, B = global_batch / hosts rows, of the arrays of `dataset.train.take`, augmented
    and standardised where the recipe says so, plus "row", uint32 (B,): the row's number in the global batch. `permuted`
    (the twin) changes the rows' order within each micro-batch alone. Raises BadInput where `hosts` does not divide the
    batch.
    """
    batch = recipe.train.global_batch
    if batch % hosts:
        raise BadInput(f"train.global_batch={batch} is not divided by {hosts} hosts: take a multiple of {hosts}")
    # One thread for both: with one for each Python's lock goes to and fro, and no more come than from one.
    batches = hashed(made(dataset, recipe, start, stop, host, hosts, permuted))
    return ahead(batches, AHEAD + recipe.devices.steps_per_call - 1)


def made(dataset: Dataset, recipe: Recipe, start: int, stop: int, host: int, hosts: int, permuted: bool
         ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The iterator behind `training_batches`, without the hashes and the threads."""
    seed, global_batch = recipe.seed, recipe.train.global_batch
    shuffled = recipe.train.accumulate if permuted else 0
    together = max(1, PLANNED * hosts // global_batch)
    for first in range(start, stop, together):
        steps = range(first, min(first + together, stop))
        row_KxB = np.stack([rows(step, global_batch, seed, host, hosts, shuffled) for step in steps])
        example_KxB = examples(row_KxB, np.array(steps)[:, None], global_batch, len(dataset.train), seed)
        for step, row, example in zip(steps, row_KxB, example_KxB, strict=True):
            batch = taken(dataset, recipe, step, row, example)
            if MIXUP in recipe.data.augment:
                batch = mixed(dataset, recipe, step, batch)
            if dataset.standard:
                batch["inputs"] = standardised(batch["inputs"], dataset.standard)
            yield step, batch


def hashed(batches: Iterator[tuple[int, dict[str, np.ndarray]]]) -> Iterator[Numbered]:
    """The same with the SHA-256 of each batch."""
    for step, batch in batches:
        yield step, batch, digest(batch)


def taken(dataset: Dataset, recipe: Recipe, step: int, row: np.ndarray, example: np.ndarray) -> dict[str, np.ndarray]:
    """The batch of some rows of a step, augmented where the recipe says so, but not mixed."""
    batch = dataset.train.take(example) | {"row": row}
    if dataset.drawn:
        return in_training(dataset.drawn, batch, dataset.train, example, (recipe.seed, step), row)
    if recipe.data.augment:
        batch["inputs"] = augment(batch["inputs"], recipe.data, recipe.seed, step, row)
    return batch


def mixed(dataset: Dataset, recipe: Recipe, step: int, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch whose images are mixed with those of other rows of the global batch, wherever these are read (Zhang et
    al. 2018), with the others' labels, int32 (B,), and the row's own share, float32 (B,), as `MIXED`."""
    seed, size, row = recipe.seed, recipe.train.global_batch, batch["row"]
    mate, share = mates(row, seed, step, size), shares(row, seed, step, recipe.data.augmenting.mixup)
    if len(row) == size:  # all of them are here
        place = np.empty(size, np.int64)
        place[row] = np.arange(size)
        other = {name: batch[name][place[mate]] for name in ("inputs", "labels")}
    else:
        other = taken(dataset, recipe, step, mate, examples(mate, step, size, len(dataset.train), seed))
    part = share[:, None, None, None]
    inputs = part * batch["inputs"] + (1 - part) * other["inputs"]
    return {**batch, "inputs": inputs} | dict(zip(MIXED, (other["labels"], share), strict=True))


def held_out_batches(dataset: Dataset, rows: int, most: int | None = None) -> Iterator[dict[str, np.ndarray]]:
    """Iterator of batches of `rows` rows over the whole held-out set, in order, or over its last batch and the first of
    the others, `most` in all; rows past its end have weight 0."""
    count = len(dataset.held_out)
    starts = range(0, count, rows)
    for start in starts if most is None or most >= len(starts) else [*starts[:most - 1], starts[-1]]:
        index = np.arange(start, start + rows)
        batch = dataset.held_out.take(np.minimum(index, count - 1))
        if dataset.drawn:
            batch = in_evaluation(dataset.drawn, batch, dataset.held_out, np.minimum(index, count - 1))
        if dataset.standard:
            batch["inputs"] = standardised(batch["inputs"], dataset.standard)
        batch["weights"][index >= count] = 0
        yield batch | {"row": np.arange(rows, dtype=np.uint32)}


def example_shape_of(recipe: Recipe, batch: Mapping[str, Any]) -> tuple:
    """The `Dataset.example_shape` of a batch, of whatever framework its arrays are."""
    if not reads_arrays(recipe.model):
        return tuple(batch["inputs"].shape[1:])
    return tuple((name, tuple(x.shape[1:]), x.dtype.name) for name, x in sorted(batch.items()) if name not in ADDED)


def input_specs(recipe: Recipe, example_shape: Sequence[Any]) -> dict[str, tuple[tuple[int | None, ...], str]]:
    """{name: (shape with the batch first, dtype)} of what the model reads of a batch, of a `Dataset.example_shape`."""
    text = reads_text(recipe.model)
    if reads_arrays(recipe.model):
        read = family_of(recipe.model).inputs
        asked = read(recipe.model) if read else [name for name, _, _ in example_shape if name not in JUDGED]
        specs = {name: ((None, *shape), master_dtype(recipe) if dtype == "float32" else dtype)
                 for name, shape, dtype in example_shape if name in asked}
        return specs | (DRAWN if draws(recipe.model) else {})
    # Images are float32 in every precision but float64, where the cast is exact.
    image = master_dtype(recipe)
    specs = {"inputs": ((None, *example_shape), "int32" if text else image)}
    if text:
        specs["positions"] = ((None, *example_shape), "int32")
        if not recipe.data.cross_documents:
            specs["segments"] = ((None, *example_shape), "int32")
    if draws(recipe.model):
        specs |= DRAWN
    return specs


def digest(batch: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) over the names, in order, dtypes, shapes and bytes of a batch."""
    sha = hashlib.sha256()
    for name in sorted(batch):
        array = np.ascontiguousarray(batch[name])
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(array)  # type: ignore[arg-type]  # it is a buffer
    return sha.hexdigest()


def filled(batches: Sequence[Any], count: int) -> list[Any]:
    """The batches, and the last of them again until there are `count`: a call of several steps always has as many."""
    return [*batches, *[batches[-1]] * (count - len(batches))]


def ahead(items: Iterator[Any], most: int = AHEAD) -> Generator[Any, None, None]:
    """The same iterator, run by one thread up to `most` items early.

    An exception is raised where its item is asked for; closing or dropping the iterator ends the thread.
    """
    thread, end = ThreadPoolExecutor(1, "batches"), object()
    try:
        waiting = deque(thread.submit(next, items, end) for _ in range(most))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
