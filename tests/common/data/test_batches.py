import hashlib
import itertools
import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from twinscale.common.data import augment as augmenting
from twinscale.common.data import held_out_batches, open_dataset, training_batches
from twinscale.common.data.batches import ahead, digest
from twinscale.common.data.shapes import batch_shapes
from twinscale.common.errors import BadInput
from twinscale.common.sources import MIXED

TEXTS = [f"document {i}: " + "lorem ipsum " * (i % 7 + 3) for i in range(80)]


def prefetchers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.fixture
def text(recipe, corpus):
    asked = recipe(corpus(TEXTS), sequence=32, held_out=0.2)
    return open_dataset(asked), asked


@pytest.fixture
def digits(recipe):
    asked = recipe("digits", held_out=0.1, augment=["flip", "shift", "cutout"])
    return open_dataset(asked), asked


@pytest.fixture(params=["text", "digits"])
def either(request):
    return request.getfixturevalue(request.param)


def by_row(*batches):
    """The rows of several batches, sorted by their number."""
    whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.argsort(whole["row"])
    return {name: value[order] for name, value in whole.items()}


def test_a_step_is_the_same_wherever_the_iterator_starts(either):
    from_zero = list(training_batches(*either, 0, 200))
    assert [step for step, _, _ in from_zero] == list(range(200))
    later = list(training_batches(*either, 137, 150))
    assert [(step, sha) for step, _, sha in later] == [(step, sha) for step, _, sha in from_zero[137:150]]


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_hosts_share_the_rows_of_the_same_batches(either, hosts):
    whole = list(training_batches(*either, 0, 10))
    parts = [list(training_batches(*either, 0, 10, host=host, hosts=hosts)) for host in range(hosts)]
    for (_, batch, sha), *shares in zip(whole, *parts, strict=True):
        assert all(len(share[1]["row"]) == 8 // hosts for share in shares)
        assert digest(by_row(*(share[1] for share in shares))) == digest(batch) == sha


def test_the_twin_differs_by_the_order_of_rows_alone(either):
    plain, twin = (training_batches(*either, 0, 10, permuted=permuted) for permuted in (False, True))
    for (_, _, sha), (_, batch, other) in zip(plain, twin, strict=True):
        assert other != sha
        assert digest(by_row(batch)) == sha


def test_images_are_augmented_in_training_alone(digits, recipe):
    dataset, asked = digits
    plain = recipe("digits", held_out=0.1)
    (_, changed, _), (_, same, _) = (next(iter(training_batches(dataset, one, 0, 1))) for one in (asked, plain))
    assert np.array_equal(changed["labels"], same["labels"])
    assert not np.array_equal(changed["inputs"], same["inputs"])
    held_out = np.concatenate([batch["inputs"] for batch in held_out_batches(dataset, 8)])[: len(dataset.held_out)]
    assert np.array_equal(held_out, dataset.held_out.take(np.arange(len(dataset.held_out)))["inputs"])


@pytest.fixture
def mixing(recipe):
    """Digits whose rows are mixed, and the recipe that does all but mixing."""
    asked = recipe("digits", held_out=0.1, augment=["flip", "rand-augment", "mixup", "crop"])
    return open_dataset(asked), asked, recipe("digits", held_out=0.1, augment=["flip", "rand-augment", "crop"])


def test_a_mixture_is_of_two_rows_as_they_would_be_without_it(mixing):
    dataset, asked, plain = mixing
    (step, batch, _), (_, alone, _) = (list(training_batches(dataset, one, 4, 6))[1] for one in (asked, plain))
    mate, share = augmenting.mates(batch["row"], 3, step, 8), batch["mixed_share"]
    part = share[:, None, None, None]
    assert np.array_equal(batch["inputs"], part * alone["inputs"] + (1 - part) * alone["inputs"][mate])
    assert np.array_equal(batch["labels"], alone["labels"]) and batch["inputs"].dtype == share.dtype == np.float32
    assert np.array_equal(batch["mixed_labels"], alone["labels"][mate]) and batch["mixed_labels"].dtype == np.int32
    assert np.array_equal(share, augmenting.shares(batch["row"], 3, step, 0.2)) and len(set(share)) == 8
    assert MIXED[0] not in next(held_out_batches(dataset, 8))
    assert {name: (x.shape, x.dtype.name) for name, x in batch.items()} == batch_shapes(asked, dataset.example_shape)


@pytest.mark.parametrize("hosts", [2, 8])
def test_mixtures_are_the_same_however_rows_are_shared(mixing, hosts):
    whole = list(training_batches(*mixing[:2], 0, 4))
    parts = [list(training_batches(*mixing[:2], 0, 4, host=host, hosts=hosts)) for host in range(hosts)]
    for (_, _, sha), *shares in zip(whole, *parts, strict=True):
        assert digest(by_row(*(share[1] for share in shares))) == sha
    later = list(training_batches(*mixing[:2], 2, 4))
    assert [sha for _, _, sha in later] == [sha for _, _, sha in whole[2:]]
    for (_, _, sha), (_, batch, other) in zip(whole, training_batches(*mixing[:2], 0, 4, permuted=True), strict=True):
        assert other != sha and digest(by_row(batch)) == sha


def test_a_training_that_is_killed_between_mixtures_goes_on_with_the_same_ones(mixing):
    """Data that is opened anew, and an iterator that begins at the step of the checkpoint."""
    dataset, asked, _ = mixing
    whole = list(training_batches(dataset, asked, 0, 6))
    with closing(training_batches(dataset, asked, 0, 6)) as killed:
        before = [next(killed) for _ in range(3)]
    after = list(training_batches(open_dataset(asked), asked, 2, 6))  # saved after two updates
    assert [sha for _, _, sha in before[:2] + after] == [sha for _, _, sha in whole]
    assert all(one[name].tobytes() == other[name].tobytes() for (_, one, _), (_, other, _) in
               zip(whole[2:], after, strict=True) for name in (*MIXED, "inputs", "labels", "row"))


def test_the_seed_changes_the_batches(text, recipe):
    dataset, asked = text
    seeds = (asked.model_copy(update={"seed": seed}) for seed in range(5))
    assert len({sha for one in seeds for _, _, sha in training_batches(dataset, one, 0, 1)}) == 5


@pytest.mark.parametrize("rows", [1, 7, 64, 10_000])
def test_held_out_weights_sum_to_the_true_count(either, rows):
    dataset, _ = either
    batches = list(held_out_batches(dataset, rows))
    entry = dataset.manifest["held_out"]
    true = entry["bytes"] if dataset.kind == "text" else entry["examples"]
    assert sum(batch["weights"].sum() for batch in batches) == true
    assert all(len(value) == rows for batch in batches for value in batch.values())
    assert all(np.array_equal(batch["row"], np.arange(rows)) for batch in batches)
    labels = np.concatenate([batch["labels"] for batch in batches])[: len(dataset.held_out)]
    assert np.array_equal(labels, dataset.held_out.take(np.arange(len(dataset.held_out)))["labels"])


def test_a_few_held_out_batches_are_the_first_ones_and_the_last(either):
    dataset, _ = either
    every, few = list(held_out_batches(dataset, 1)), list(held_out_batches(dataset, 1, 3))
    assert len(every) > 3 == len(few)
    for batch, wanted in zip(few, (*every[:2], every[-1]), strict=True):
        assert all(np.array_equal(batch[name], wanted[name]) for name in wanted)
    assert len(list(held_out_batches(dataset, 1, len(every) + 1))) == len(every)


def test_the_digest_sees_names_types_shapes_and_bytes():
    batch = {"a": np.zeros((2, 3), np.int32), "b": np.ones(2, np.float32)}
    assert digest(batch) == digest(dict(reversed(batch.items())))
    expected = hashlib.sha256(b"a <i4 (2, 3)\n" + bytes(24) + b"b <f4 (2,)\n" + batch["b"].tobytes()).hexdigest()
    assert digest(batch) == expected
    others = [{"a": batch["a"].reshape(3, 2)}, {"a": batch["a"].view(np.float32)}, {"a": batch["a"] + 1}]
    renamed = {"c": batch["a"], "b": batch["b"]}
    assert len({expected, digest(renamed), *(digest(batch | other) for other in others)}) == 5


def test_batches_are_made_a_few_ahead():
    made = []
    items = ahead(made.append(i) or i for i in itertools.count())
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1, 2, 3]
    items.close()


@pytest.mark.parametrize("leave", ["close", "drop", "finish"])
def test_the_thread_ends_with_its_iterator(text, leave):
    batches = training_batches(*text, 0, 10**9 if leave != "finish" else 20)
    next(batches)
    assert len(prefetchers()) == 1
    start = time.perf_counter()
    if leave == "close":
        batches.close()
    elif leave == "finish":
        list(batches)
    del batches
    assert not prefetchers() and time.perf_counter() - start < 1


def test_an_error_is_raised_where_its_batch_is_asked_for(text):
    dataset, asked = text
    calls = itertools.count()

    class Failing(type(dataset.train)):
        def take(self, indices):
            if next(calls) == 5:
                raise OSError("the disk is gone")
            return super().take(indices)

    failing = replace(dataset, train=Failing(**vars(dataset.train)))
    batches = training_batches(failing, asked, 0, 100)
    assert [step for step, _, _ in itertools.islice(batches, 5)] == list(range(5))
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert not prefetchers()


def test_hosts_that_do_not_divide_the_batch(text):
    with pytest.raises(BadInput, match="train.global_batch=8 is not divided by 3 hosts: take a multiple of 3"):
        training_batches(*text, 0, 1, hosts=3)
