"""What bits change of rows of word pieces: how much, of what, and by what alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinscale.common.data.masking import Drawn, in_evaluation, in_training
from twinscale.common.data.word_pieces import PieceKinds
from twinscale.common.errors import BadInput
from twinscale.common.sources import Data

PAD, UNKNOWN, CLS, SEP, MASK, FIRST, VOCABULARY = 0, 1, 2, 3, 4, 5, 200
SPECIAL = np.arange(VOCABULARY) < FIRST
TABLE = PieceKinds(np.arange(VOCABULARY) % 3 != 2, SPECIAL, MASK, UNKNOWN)  # a third of the pieces go on with a word
PART = SimpleNamespace()


def rows_of(count, length=40, seed=0):
    """A batch of rows [CLS] ... [SEP] of different lengths, padded."""
    rng = np.random.default_rng(seed)
    ids, mask = rng.integers(FIRST, VOCABULARY, (count, length)).astype(np.int32), np.zeros((count, length), np.int32)
    for row, end in enumerate(rng.integers(length // 2, length, count)):
        ids[row, 0], ids[row, end], ids[row, end + 1:], mask[row, :end + 1] = CLS, SEP, PAD, 1
    return {"ids": ids, "mask": mask, "labels": ids, "weights": mask.astype(np.float32)}


def trained(batch, rows=None, seed=1, step=0, **data):
    rows = np.arange(len(batch["ids"]), dtype=np.uint32) if rows is None else rows
    return in_training(Drawn(TABLE, Data(**data)), batch, PART, rows, (seed, step), rows)


ALL = [{"masked": 0.15}, {"masked": 0.15, "masked_by": "word"}, {"masked": 0.2, "masked_by": "span", "span": 2.0},
       {"augment": ["word-dropout", "span-mask"]}]


@pytest.mark.parametrize("data", ALL)
@given(order=st.permutations(range(12)), step=st.integers(0, 2**32 - 1), cut=st.integers(1, 11))
@settings(max_examples=15)
def test_what_happens_to_a_row_depends_on_seed_step_and_row_alone(data, order, step, cut):
    whole, order = trained(rows_of(12), step=step, **data), np.array(order, np.uint32)
    for part in (order[:cut], order[cut:]):
        found = trained({name: x[part] for name, x in rows_of(12).items()}, part, step=step, **data)
        assert all(np.array_equal(found[name], whole[name][part]) for name in whole)


@pytest.mark.parametrize("data", ALL)
def test_seed_and_step_change_it(data):
    found = {trained(rows_of(12), seed=seed, step=step, **data)["ids"].tobytes() for seed in (1, 2) for step in (0, 1)}
    assert len(found) == 4


def test_a_unit_that_is_none_hides_nothing():
    data, rows = Data(masked=0.15).model_copy(update={"masked_by": "unheard"}), np.arange(4, dtype=np.uint32)
    with pytest.raises(BadInput, match="data.masked_by.*unheard"):
        in_training(Drawn(TABLE, data), rows_of(4), PART, rows, (0, 0), rows)


@pytest.mark.parametrize("by", ["piece", "word", "span"])
def test_the_share_of_pieces_is_hidden_and_labels_are_what_was_there(by):
    batch = rows_of(1000, 128)
    found = trained(batch, masked=0.15, masked_by=by)
    hidden, free = found["weights"] > 0, (batch["mask"] == 1) & ~SPECIAL[batch["ids"]]
    assert not (hidden & ~free).any() and hidden.any(1).all()
    assert abs(hidden.sum() / free.sum() - 0.15) < 0.015
    assert np.array_equal(found["labels"], np.where(hidden, batch["ids"], 0))
    assert np.array_equal(found["ids"][~hidden], batch["ids"][~hidden])
    place = hidden.sum(0)[5:50] / len(hidden)  # nowhere in a row more than elsewhere
    assert place.max() - place.min() < 0.09


def test_of_what_is_hidden_8_in_10_read_mask_1_another_piece_and_1_stays():
    batch = rows_of(3000)
    found = trained(batch, masked=0.15)
    hidden = found["weights"] > 0
    was, now = batch["ids"][hidden], found["ids"][hidden]
    other = (now != MASK) & (now != was)
    shares = [(now == MASK).mean(), (now == was).mean(), other.mean()]
    assert np.abs(np.array(shares) - [0.8, 0.1, 0.1]).max() < 4 * np.sqrt(0.8 * 0.2 / hidden.sum())
    assert not SPECIAL[now[other]].any() and len(np.unique(now[other])) > 0.9 * (VOCABULARY - FIRST)


def words_of(batch):
    """The number of the word, in its row, that each piece is of; the first piece of a row begins one."""
    special = SPECIAL[batch["ids"]]
    return np.cumsum(TABLE.begins[batch["ids"]] | special | np.pad(special, ((0, 0), (1, 0)))[:, :-1], 1)


def test_words_are_hidden_whole_and_spans_are_words_in_a_row():
    batch = rows_of(1500)
    words, lengths = words_of(batch), {}
    for by, span in (("piece", 3.0), ("word", 3.0), ("span", 2.0), ("span", 5.0)):
        hidden = trained(batch, masked=0.15, masked_by=by, span=span)["weights"] > 0
        halves, runs = 0, []
        for row, number in zip(hidden, words, strict=True):
            shown, gone = set(number[~row]), sorted(set(number[row]))
            halves += len(shown & set(gone))
            runs += [len(run) for run in np.split(gone, np.flatnonzero(np.diff(gone) > 1) + 1)]
        assert (halves == 0) == (by != "piece")
        lengths[by, span] = np.mean(runs)
    assert lengths["word", 3.0] < 1.3 < lengths["span", 2.0] - 0.1 and lengths["span", 2.0] + 0.5 < lengths["span", 5.0]


def test_held_out_rows_are_hidden_by_their_number_whatever_the_batch():
    batch = rows_of(12)
    drawn = Drawn(TABLE, Data(masked=0.15, augment=["word-dropout"]))
    whole = in_evaluation(drawn, batch, PART, np.arange(12))
    some = np.array([7, 3])
    found = in_evaluation(drawn, {name: x[some] for name, x in batch.items()}, PART, some)
    assert all(np.array_equal(found[name], whole[name][some]) for name in whole)
    assert UNKNOWN not in whole["ids"] and whole["weights"].any()


def test_words_that_are_dropped_read_as_unknown_and_spans_as_mask():
    batch = rows_of(500, 128)
    words = words_of(batch)
    for choice, shown in (("word-dropout", UNKNOWN), ("span-mask", MASK)):
        found = trained(batch, augment=[choice], augment_share=0.2)
        gone = found["ids"] != batch["ids"]
        assert (found["ids"][gone] == shown).all() and not SPECIAL[batch["ids"][gone]].any()
        assert abs(gone.sum() / (~SPECIAL[batch["ids"]]).sum() - 0.2) < 0.02
        assert all(not set(number[row]) & set(number[~row]) for row, number in zip(gone, words, strict=True))
        assert found["labels"] is batch["labels"] and found["weights"] is batch["weights"]
