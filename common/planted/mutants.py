"""Semantic errors and harmless changes to plant in a trainer's process, to show what a comparison catches and what it
lets pass. No recipe can reach them.

Each is one patch point, held open while it is planted. Here stand those of what both backends share; a room's
`mutants.py` adds its own.
"""

from collections.abc import Iterator
from unittest.mock import patch

import numpy as np

from twinscale.common import schedules
from twinscale.common.data import batches, order
from twinscale.common.families import parameters
from twinscale.common.numbers import bits
from twinscale.common.planted import mutants_data, mutants_tuning
from twinscale.common.planted.planting import registry
from twinscale.common.planted.reach import (
    changed_batches,
    changed_checkpoints,
    changed_held_out,
    changed_rates,
    everywhere,
    mean_of_batches,
)
from twinscale.common.training import evaluating, loop

CHANGES, change = registry()


@change("layer", "data", needs="an epoch that ends")
def shuffled_epoch() -> Iterator[None]:
    """Every epoch repeats the order of the first."""
    examples = order.examples

    def repeated(row, step, global_batch, n, seed):
        epoch, place = np.divmod(np.asarray(step, np.int64) * global_batch + np.asarray(row, np.int64), n)
        found, later = examples(row, step, global_batch, n, seed), epoch > 0
        found[later] = order.permutation(place[later], n, seed, 0)
        return found

    with patch.object(batches, "examples", repeated):
        yield


@change("layer", "data")
def repeated_rows() -> Iterator[None]:
    """Half of a batch's rows are the other half once more, as if two hosts read the same rows."""
    rows = batches.rows

    def halved(step, global_batch, *rest):
        found = rows(step, global_batch, *rest)
        return np.concatenate([found[::2], found[::2]])[:len(found)]

    with patch.object(batches, "rows", halved):
        yield


@change("layer", "data", needs="text")
def shifted_labels() -> Iterator[None]:
    """Labels are a token late: a position learns to repeat itself."""
    with changed_batches(lambda batch: batch | {"labels": batch["inputs"].astype(batch["labels"].dtype)}):
        yield


@change("image", "data", needs="augmented pictures")
def other_augmentation() -> Iterator[None]:
    """Images are shifted by bits of the next step."""
    augment = batches.augment
    with patch.object(batches, "augment", lambda x, kinds, seed, step, row: augment(x, kinds, seed, step + 1, row)):
        yield


@change("dense", "schedule")
def late_schedule() -> Iterator[None]:
    """The learning rate is that of the update before."""
    with changed_rates(lambda table: np.concatenate([table[:1], table[:-1]])):
        yield


@change("dense", "schedule")
def early_schedule() -> Iterator[None]:
    """The learning rate is that of the update after."""
    with changed_rates(lambda table: np.concatenate([table[1:], table[-1:]])):
        yield


@change("dense", "schedule")
def warm_up_from_zero() -> Iterator[None]:
    """Warm-up starts at zero in place of its first fraction."""
    with changed_rates(lambda table: np.concatenate([[0.0], table[:-1]])):
        yield


@change("layer", "initial value", "*.attention.output.kernel", needs="decoder")
def missing_residual_scale() -> Iterator[None]:
    """Residual outputs do not start smaller by sqrt(2 x layers)."""
    def larger(name, parameter, *rest):
        value = parameters_initial(name, parameter, *rest)
        return value * 2 if name.endswith(("attention.output.kernel", "feedforward.down.kernel")) else value

    parameters_initial = parameters.initial_value
    with everywhere("initial_value", parameters_initial, larger):
        yield


@change("dense", "decay", needs="biases")
def decayed_biases() -> Iterator[None]:
    """Weight decay applies to every tensor."""
    with everywhere("is_decayed", parameters.is_decayed, lambda name: True):
        yield


@change("dense", "random bits")
def other_dropout() -> Iterator[None]:
    """Dropout keeps an element with a probability that is off by one in a thousand."""
    keep_below = bits.keep_below
    with everywhere("keep_below", keep_below, lambda rate: keep_below(rate) - 8389):
        yield


@change("layer", "evaluation")
def dropped_remainder() -> Iterator[None]:
    """Evaluation leaves out the last batch."""
    held_out_batches = batches.held_out_batches
    with patch.object(evaluating, "held_out_batches", lambda *of: list(held_out_batches(*of))[:-1]):
        yield


@change("layer", "evaluation", needs="text")
def perplexity_of_batches() -> Iterator[None]:
    """Perplexity is the mean of the batches' perplexities."""
    with mean_of_batches("perplexity"):
        yield


@change("layer", "data", needs="text, documents kept apart")
def merged_documents() -> Iterator[None]:
    """A row is one document, whatever ends in it."""
    with changed_batches(lambda batch: {"segments": np.zeros_like(batch["segments"])}):
        yield


@change("layer", "data", needs="text")
def late_positions() -> Iterator[None]:
    """Positions are counted from one."""
    with changed_batches(lambda batch: {"positions": np.minimum(batch["positions"] + 1, batch["positions"].shape[1] - 1)
                                        .astype(batch["positions"].dtype)}):
        yield


@change("dense", "data")
def late_batches() -> Iterator[None]:
    """Every batch is that of the step after."""
    examples = batches.examples
    with patch.object(batches, "examples", lambda row, step, *rest: examples(row, step + 1, *rest)):
        yield


@change("dense", "data")
def unshuffled() -> Iterator[None]:
    """Examples come in the order of their files."""
    with patch.object(batches, "examples", lambda row, step, global_batch, n, seed: (
            np.asarray(step, np.int64) * global_batch + np.asarray(row, np.int64)) % n):
        yield


@change("dense", "data", needs="pictures")
def darker_pictures() -> Iterator[None]:
    """Pixels are divided by 256 in place of 255."""
    with changed_batches(lambda batch: {"inputs": (batch["inputs"] * np.float32(255 / 256)).astype(np.float32)}):
        yield


@change("image", "data", needs="pictures")
def turned_pictures() -> Iterator[None]:
    """Rows and columns of a picture change places."""
    with changed_batches(lambda batch: {"inputs": batch["inputs"].swapaxes(1, 2).copy()}):
        yield


@change("image", "data", needs="augmented pictures")
def unaugmented() -> Iterator[None]:
    """Images are taken as they are."""
    with patch.object(batches, "augment", lambda x, *_: x):
        yield


@change("dense", "schedule", needs="a cosine, warm-up")
def decay_from_the_start() -> Iterator[None]:
    """The cosine is counted from the first update and not from the warm-up's end."""
    def counted(recipe):
        t, peak, final = np.arange(recipe.train.steps), recipe.optimizer.learning_rate, recipe.schedule.final
        factor = final + (1 - final) * (1 + np.cos(np.pi * t / max(1, len(t) - 1))) / 2
        return peak * factor * np.minimum(1, (t + 1) / recipe.schedule.warmup)

    with everywhere("learning_rates", schedules.learning_rates, counted):
        yield


@change("dense", "schedule", needs="micro-batches")
def schedule_each_micro_batch() -> Iterator[None]:
    """The schedule moves on with every micro-batch, as Keras' own accumulation has it."""
    rates = schedules.learning_rates

    def fast(recipe):
        table = rates(recipe)
        return table[np.minimum(np.arange(len(table)) * recipe.train.accumulate, len(table) - 1)]

    with everywhere("learning_rates", rates, fast):
        yield


@change("lion", "schedule")
def float32_rates() -> Iterator[None]:
    """Learning rates are rounded to float32, as Keras keeps them."""
    with changed_rates(lambda table: table.astype(np.float32).astype(np.float64)):
        yield


@change("lamb", "initial value", needs="biases")
def biased_start() -> Iterator[None]:
    """Biases start at a hundredth."""
    first = parameters.initial_value
    with everywhere("initial_value", first, lambda name, *rest: first(name, *rest) + 0.01 * name.endswith(".bias")):
        yield


@change("dense", "initial value")
def other_seed() -> Iterator[None]:
    """First weights are drawn from the seed after the recipe's."""
    first = parameters.initial_value
    with everywhere("initial_value", first, lambda name, parameter, seed, *more: first(
            name, parameter, seed + 1, *more)):
        yield


@change("layer", "evaluation", needs="text")
def evaluated_padding() -> Iterator[None]:
    """Evaluation counts every position, those that weigh nothing too."""
    with changed_held_out(lambda batch: {"weights": np.ones_like(batch["weights"])}):
        yield


@change("layer", "evaluation", needs="text")
def loss_of_batches() -> Iterator[None]:
    """The held-out loss is the mean of the batches' means."""
    with mean_of_batches("loss"):
        yield


@change("layer", "evaluation", needs="text, classes")
def accuracy_of_batches() -> Iterator[None]:
    """The held-out accuracy is the mean of the batches' accuracies."""
    with mean_of_batches("accuracy"):
        yield


@change("rotary", "evaluation", needs="text")
def nats_per_byte() -> Iterator[None]:
    """Bits a byte are told in nats."""
    finish = loop.finish

    def in_nats(sums, label_bytes=None):
        found = finish(sums, label_bytes)
        return {name: x * np.log(2) if name == "bits_per_byte" else x for name, x in found.items()}

    with patch.object(loop, "finish", in_nats):
        yield


@change("dense", "evaluation")
def last_batch_twice() -> Iterator[None]:
    """Evaluation counts the last batch twice."""
    held_out_batches = batches.held_out_batches

    def doubled(*of):
        found = list(held_out_batches(*of))
        return [*found, found[-1]]

    with patch.object(evaluating, "held_out_batches", doubled):
        yield


@change("resumed", "checkpoint")
def lost_moments() -> Iterator[None]:
    """A run that goes on starts its first moments anew."""
    with changed_checkpoints(lambda name, x, tensors: np.zeros_like(x) if name.startswith("m/") else x):
        yield


@change("resumed", "checkpoint", needs="AdamW")
def lost_second_moments() -> Iterator[None]:
    """A run that goes on starts its second moments anew."""
    with changed_checkpoints(lambda name, x, tensors: np.zeros_like(x) if name.startswith("v/") else x):
        yield


@change("resumed", "checkpoint", needs="an average")
def lost_average() -> Iterator[None]:
    """A run that goes on starts the average anew, from the weights that it has."""
    with changed_checkpoints(lambda name, x, tensors: tensors[name.replace("ema/", "weights/")]):
        yield


@change("resumed", "checkpoint", needs="an average")
def average_for_weights() -> Iterator[None]:
    """A run goes on from the average, which is the checkpoint that one would keep."""
    with changed_checkpoints(lambda name, x, tensors: tensors.get(name.replace("weights/", "ema/"), x)):
        yield


@change("resumed", "checkpoint")
def coarse_checkpoint() -> Iterator[None]:
    """Checkpoints keep half of a number's digits: float32 of float64, bfloat16 of float32."""
    def coarse(name, x, tensors):
        if x.dtype == np.float64:
            return x.astype(np.float32).astype(np.float64)
        return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) if x.dtype == np.float32 else x

    with changed_checkpoints(coarse):
        yield


@change("resumed", "checkpoint", needs="biases")
def forgotten_biases() -> Iterator[None]:
    """A run that goes on has no biases: they were not saved."""
    with changed_checkpoints(lambda name, x, tensors: np.zeros_like(x) if name.startswith(
            "weights/") and name.endswith(".bias") else x):
        yield


@change("resumed", "data", needs="more than three updates", phase="checkpoint")
def data_from_the_start() -> Iterator[None]:
    """A run that goes on reads its data from the beginning again."""
    training_batches = batches.training_batches

    def again(dataset, recipe, start, stop, **options):
        first = training_batches(dataset, recipe, 0, stop - start, **options)
        for step, batch, digest in first:
            yield start + step, batch, digest

    with patch.object(loop, "training_batches", again):
        yield


@change("dense")
def reversed_rows() -> Iterator[None]:
    """The rows of each micro-batch come in the reverse order."""
    training_batches = batches.training_batches

    def backwards(dataset, recipe, *rest, **options):
        parts = recipe.train.accumulate
        for step, batch, digest in training_batches(dataset, recipe, *rest, **options):
            turned = {name: x.reshape(parts, -1, *x.shape[1:])[:, ::-1].reshape(x.shape) for name, x in batch.items()}
            yield step, turned, digest

    with patch.object(loop, "training_batches", backwards):
        yield


@change("dense")
def reversed_micro_batches() -> Iterator[None]:
    """The rows of a whole batch come in the reverse order, and so in other micro-batches."""
    training_batches = batches.training_batches

    def backwards(*of, **options):
        for step, batch, digest in training_batches(*of, **options):
            yield step, {name: x[::-1] for name, x in batch.items()}, digest

    with patch.object(loop, "training_batches", backwards):
        yield


@change("image")
def one_batch_ahead() -> Iterator[None]:
    """Batches are made one at a time."""
    with patch.object(batches, "AHEAD", 1), patch.object(batches, "PLANNED", 1):
        yield


@change("dense")
def larger_evaluation() -> Iterator[None]:
    """Evaluation takes twice as many rows at once."""
    rows = evaluating.micro_batch
    with patch.object(evaluating, "micro_batch", lambda recipe: 2 * rows(recipe)):
        yield


@change("resumed", needs="more than three updates")
def rewritten_checkpoint() -> Iterator[None]:
    """What a checkpoint gives back is taken apart and put together again."""
    with changed_checkpoints(lambda name, x, tensors: x.copy()):
        yield


CHANGES |= mutants_data.CHANGES | mutants_tuning.CHANGES
