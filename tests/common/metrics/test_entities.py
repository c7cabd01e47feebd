"""Entities against seqeval's own figures, and against its rules written down plainly."""

from functools import partial

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.metrics import bounds_of, finished, own_sums, statistics, statistics_of, total
from twinscale.common.metrics.entities import ENTITIES, TOUCHED

TAGS = ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]


def sums(logits, labels, weights, xp=np):
    return statistics(xp, logits, labels, weights) | statistics_of(["entities"], xp, logits, labels, weights)


def logits_of(best, seed=0):
    return 3.0 * np.eye(7)[best] + np.random.default_rng(seed).random((*best.shape, 7))


def drawn(seed):
    """(predicted and true tags, weights), of which some tags continue nothing and some positions are later pieces."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 14, 2))
    true = rng.choice(7, shape, p=[0.3, 0.1, 0.2, 0.1, 0.15, 0.05, 0.1])
    best = np.where(rng.random(shape) < 0.7, true, rng.integers(0, 7, shape))
    return best, true, (rng.random(shape) < 0.7).astype(float)


def entities(tags):
    """{(type, first word, last word)} of a sentence's tags: an entity goes on with I- of its type, and with nothing
    else."""
    found, start = set(), None
    for i, tag in enumerate([*tags, "O"]):
        goes_on = start is not None and tag == f"I-{tags[start][2:]}"
        if start is not None and not goes_on:
            found.add((tags[start][2:], start, i - 1))
            start = None
        if start is None and tag != "O":
            start = i
    return found


def test_they_are_seqevals_figures():
    """Those that seqeval 1.2.2's classification_report gives of these rows."""
    true = np.array([[4, 4, 2, 0, 0, 1, 2, 0, 0, 6], [3, 0, 2, 6, 5, 4, 1, 2, 3, 0], [2, 0, 5, 0, 3, 5, 0, 5, 5, 0],
                     [4, 0, 2, 2, 0, 1, 4, 1, 0, 3]])
    best = np.array([[4, 4, 2, 0, 6, 1, 2, 0, 0, 3], [3, 6, 2, 2, 5, 2, 1, 2, 3, 0], [2, 0, 5, 0, 3, 5, 0, 5, 2, 0],
                     [4, 1, 2, 2, 0, 1, 4, 1, 2, 3]])
    weights = np.array([[0, 1, 1, 1, 1, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1, 1, 1],
                        [1, 1, 1, 1, 1, 1, 1, 0, 1, 1]], float)
    found = finished(["entities"], total([sums(logits_of(best), true, weights)]), TAGS)
    wanted = {"/LOC": (0.5, 0.6666666666666666, 0.5714285714285715), "/ORG": (0.875, 1.0, 0.9333333333333333),
              "/PER": (0.6666666666666666, 0.5714285714285714, 0.6153846153846154),
              "": (0.6818181818181818, 0.75, 0.7142857142857143),
              "_macro": (0.6805555555555555, 0.746031746031746, 0.7067155067155068),
              "_weighted": (0.6895833333333333, 0.75, 0.7134798534798534)}
    assert found == {f"entity_{part}{key}": pytest.approx(value, abs=1e-15) for key, row in wanted.items()
                     for part, value in zip(("precision", "recall", "f1"), row, strict=True)}


def test_whatever_the_tags_the_counts_are_those_of_the_plain_rules():
    for seed in range(150):
        best, true, weights = drawn(seed)
        counts = {key: dict.fromkeys(("LOC", "ORG", "PER"), 0) for key in ("right", "predicted", "labelled")}
        for row in zip(true, best, weights, strict=True):
            spans = [entities([TAGS[tag] for tag, weight in zip(tags, row[2], strict=True) if weight])
                     for tags in row[:2]]
            for key, found in (("right", spans[0] & spans[1]), ("predicted", spans[1]), ("labelled", spans[0])):
                for kind, *_ in found:
                    counts[key][kind] += 1
        own = own_sums(ENTITIES, total([sums(logits_of(best, seed), true, weights)]))
        assert {key: own[key].tolist() for key in counts} == {
            key: list(row.values()) for key, row in counts.items()}, seed


def test_a_rows_last_entity_does_not_go_on_in_the_next_row():
    """B-LOC at a row's end and I-LOC at the next one's begin: two entities, in any parting of the rows."""
    true = np.array([[0, 1], [2, 0]])
    whole = total([sums(logits_of(true), true, np.ones((2, 2)))])
    parts = total([sums(logits_of(true)[i:i + 1], true[i:i + 1], np.ones((1, 2))) for i in (0, 1)])
    assert whole["entities.labelled.0"] == whole["entities.right.0"] == parts["entities.right.0"] == 2


def test_later_pieces_of_a_word_part_no_entity():
    true = np.array([[1, 0, 0, 2, 0]])
    own = total([sums(logits_of(true), true, np.array([[1.0, 0, 0, 1, 1]]))])
    assert (own["entities.labelled.0"], own["entities.right.0"]) == (1, 1)
    assert total([sums(logits_of(true), true, np.ones((1, 5)))])["entities.labelled.0"] == 2


def test_both_frameworks_count_alike_when_compiled():
    jax, keras, tf = (pytest.importorskip(name) for name in ("jax", "keras", "tensorflow"))
    best, true, weights = drawn(5)
    given = logits_of(best).astype("float32"), true.astype("int32"), weights.astype("float32")
    wanted = total([sums(*given)])

    @tf.function(jit_compile=True, autograph=False)
    def in_keras(*of):
        return sums(*of, xp=keras.ops)

    for found in (jax.jit(partial(sums, xp=jax.numpy))(*given), in_keras(*map(tf.convert_to_tensor, given))):
        found = total([found])
        assert {key: found[key] for key in wanted if key != "loss"} == {
            key: x for key, x in wanted.items() if key != "loss"}
    assert wanted["entities.labelled.0"] > 1


def test_a_flip_touches_two_entities_at_most_and_the_bound_says_so():
    """Each tag of rows changed into each other: right and predicted move by TOUCHED at most, and some by that."""
    most = 0
    for seed in range(12):
        best, true, weights = drawn(seed)
        weights[:] = 1
        own = own_sums(ENTITIES, total([sums(logits_of(best), true, weights)]))
        for place in np.ndindex(best.shape):
            other = best.copy()
            other[place] = (other[place] + 1 + seed % 6) % 7
            now = own_sums(ENTITIES, total([sums(logits_of(other), true, weights)]))
            moved = max(np.abs(now[key] - own[key]).max() for key in ("right", "predicted"))
            assert moved <= TOUCHED and abs(now["predicted"].sum() - own["predicted"].sum()) <= TOUCHED
            most = max(most, moved)
    assert most == TOUCHED
    own = {"weight": 400.0, "right": np.full(3, 90.0), "predicted": np.full(3, 90.0), "labelled": np.full(3, 90.0)}
    still, moving = (bounds_of(ENTITIES, own | {"near": near}, 1e-5, TAGS) for near in (0.0, 9.0))
    assert max(still.values()) < 1e-14 < 0.01 < min(moving.values()) < max(moving.values()) < 1


def test_a_type_that_may_come_to_be_predicted_moves_the_mean_over_types():
    own = {"weight": 50.0, "near": 5.0, **{key: np.array([9.0, 9.0, 0.0]) for key in (
        "right", "predicted", "labelled")}}
    assert finished_macro(own) == 1.0 and bounds_of(ENTITIES, own, 1e-6, TAGS)["entity_f1_macro"] >= 1
    own["labelled"] = own["predicted"] = np.array([9.0, 9.0, 9.0])
    assert bounds_of(ENTITIES, own, 1e-9, TAGS)["entity_f1_macro"] < 1


def finished_macro(own):
    return ENTITIES.finish(own, TAGS)["entity_f1_macro"]


@pytest.mark.parametrize("shape", [((4,), 7), ((4, 3), 6), ((4, 3), 1)])
def test_what_are_no_tags_is_refused(shape):
    where, classes = shape
    with pytest.raises(BadInput, match="entities: .* are no tags of entities"):
        statistics_of(["entities"], np, np.zeros((*where, classes)), np.zeros(where, int), np.ones(where))
