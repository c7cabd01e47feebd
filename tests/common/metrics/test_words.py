"""An evaluation in lines: what sums it up, and the tables of classes and of entities."""

import numpy as np
import pytest

from twinscale.common.metrics import finish, finished, statistics, statistics_of, total
from twinscale.common.metrics.words import is_count, line, tables, value_words

NAMES = ("cat", "dog\x1b[31m", "eel")


@pytest.fixture(scope="module")
def measured():
    """(metrics, sums) of ten positions, of which the cats are all found."""
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    chosen = np.array([0, 0, 0, 1, 1, 0, 2, 2, 2, 1])
    logits, weights, asked = 4 * np.eye(3)[chosen], np.ones(10), ["report", "confusion"]
    sums = total([statistics(np, logits, labels, weights), statistics_of(asked, np, logits, labels, weights)])
    return finish(sums) | finished(asked, sums, NAMES), sums


def test_counts_are_whole_numbers_and_shares_are_not():
    assert is_count("confusion/cat/eel") and not is_count("f1/cat") and not is_count("mine/cat")
    assert value_words("confusion/cat/eel", 3.0) == "3" and value_words("confusion/cat/eel", 2.5) == "2.5000"
    assert value_words("accuracy", 1.0) == "1.0000" and value_words("perplexity", 1234.5) == "1234"


def test_a_line_has_what_sums_up_and_no_class(measured):
    metrics, _ = measured
    said = line(metrics)
    assert [word for word in said.split() if not word[0].isdigit()] == ["loss", "accuracy", "f1_macro"]
    assert "accuracy 0.7000" in said and f"f1_macro {metrics['f1_macro']:.4f}" in said
    entities = {f"entity_{part}{end}": 0.5 for part in ("precision", "recall", "f1") for end in ("", "_macro", "/LOC")}
    assert line({"loss": 1.0} | entities) == "loss 1.0000  entity_f1 0.5000"


def test_a_table_has_each_class_its_count_and_the_means(measured):
    metrics, sums = measured
    lines = tables(metrics, sums)
    assert lines[0].split() == ["class", "precision", "recall", "f1", "count"]
    assert [one.split()[0] for one in lines[1:]] == ["cat", r"dog\x1b[31m", "eel", "micro", "macro", "weighted"]
    assert lines[1].split()[1:] == ["0.7500", "1.0000", "0.8571", "3"] and lines[4].split()[-1] == "10"
    assert len({len(one) for one in lines}) == 1 and "\x1b" not in "".join(lines)
    assert tables({"loss": 1.0}, {}) == [] and tables(metrics, {})[1].split()[-1] == "-"


def test_of_very_many_classes_the_worst_are_told():
    metrics = {f"{part}/{i}": i / 99 for part in ("precision", "recall", "f1") for i in range(99, -1, -1)}
    lines = tables(metrics, {})
    assert lines[1].split()[0] == "0" and lines[60].split()[0] == "59" and lines[61].startswith("... 40 with a higher")


def test_a_type_of_entities_has_a_row():
    metrics = {f"entity_{part}{end}": 0.5 for part in ("precision", "recall", "f1")
               for end in ("", "_macro", "_weighted", "/LOC")}
    lines = tables(metrics, {"entities.labelled.0": 12.0, "weight": 40.0})
    assert lines[0].startswith("entity") and lines[1].split() == ["LOC", "0.5000", "0.5000", "0.5000", "12"]
    assert len(lines) == 5
