"""Verdicts: what is removed and why, what stays whatever the rules, and what a manifest says."""

import itertools

import numpy as np
import pytest

from twinscale.common.data import open_dataset
from twinscale.common.data.quality import verdicts as of
from twinscale.common.data.quality.verdicts import documents, often, remark, verdicts
from twinscale.common.data.sources import documents as all_documents
from twinscale.common.data.split import side
from twinscale.common.errors import BadInput
from twinscale.common.sources import Data


@pytest.fixture
def planted(corpus, texts, on_train):
    """(source, {reason: the text that is to be removed for it}); copies stand before the held-out text."""
    train, held_out = texts
    spaced = [on_train(lambda i, text=text: text.replace(" ", " " * (i + 2), 1)) for text in (train[0], held_out[0])]
    ends = [on_train(lambda i, text=text: f"{text} end{i}") for text in (train[1], held_out[1])]
    removed = {"length/words_least": on_train(lambda i: f"too few {i}"), "exact": spaced[0],
               "exact_of_held_out": spaced[1], "near": ends[0], "near_of_held_out": ends[1]}
    copies = [removed[name] for name in ("exact_of_held_out", "near_of_held_out", "length/words_least")]
    return corpus([*copies, *train, *held_out, removed["exact"], removed["near"]]), removed


def asked(source, *rules, **more):
    return Data(source=source, quality=rules, held_out=0.3, **more)


def test_each_planted_document_is_removed_for_its_reason_and_no_other_is(planted, empty_cache, texts):
    pytest.importorskip("datasketch")
    source, removed = planted
    data = asked(source, "length", "exact", "near")
    said = verdicts(data)
    assert {name: count["documents"] for name, count in said.told["removed"].items()} == dict.fromkeys(removed, 1)
    assert sum(count["bytes"] for count in said.told["removed"].values()) == sum(
        len(text.encode()) for text in removed.values())
    left = [text for _, text in documents(data)]
    assert not set(left) & {*removed.values()} and {*left} == {*texts[0], *texts[1]}
    assert [text for _, text in all_documents(data) if text in {*left}] == left  # in their order
    one = said.examples["near_of_held_out"][0]
    assert "of its shingles as " in one["why"] and one["name"] == "0001.txt"


def test_a_rule_that_is_none_is_refused_where_it_is_taken():
    with pytest.raises(BadInput, match="data.quality.*unheard"):
        of.judged(Data(source="stdlib").model_copy(update={"quality": ("unheard",)}), lambda: ())


def test_held_out_documents_stay_whatever_the_rules(planted, empty_cache):
    source, _ = planted
    wanted = [text for _, text in all_documents(asked(source)) if side(text.encode(), 0.3) == "held_out"]
    data = asked(source, "length", "exact", quality_options={"words_least": 100}, subset={"documents": 1})
    with pytest.raises(BadInput, match="data.quality removes all .* of them for length/words_least: leave out a rule"):
        verdicts(data)
    data = asked(source, "exact", subset={"documents": 1})
    assert [text for _, text in documents(data) if side(text.encode(), 0.3) == "held_out"] == wanted
    assert len([*documents(data)]) == len(wanted) + 1


def test_a_second_look_is_of_the_cache_and_subsets_share_one(planted, empty_cache, monkeypatch):
    source, _ = planted
    wanted = verdicts(asked(source, "exact"))
    calls, before = [], of.judged
    monkeypatch.setattr(of, "judged", lambda *given: calls.append(given) or before(*given))
    again = verdicts(asked(source, "exact"))
    assert np.array_equal(again.codes, wanted.codes) and again[1:] == wanted[1:]
    small, large = (verdicts(asked(source, "exact", subset={"share": share})).read for share in (0.3, 0.7))
    assert not calls and small.sum() < large.sum() < wanted.read.sum() and not (small & ~large & ~wanted.read).any()
    verdicts(asked(source, "exact", quality_options={"words_least": 3}))
    assert len(calls) == 1


def test_all_of_a_source_is_read_where_nothing_is_asked(planted, monkeypatch):
    monkeypatch.setattr(of, "verdicts", None)
    data = asked(planted[0])
    assert [*documents(data)] == [*all_documents(data)] and of.told_of(data) == {} and of.chosen_by(data) == ()


def test_a_manifest_says_what_was_removed_and_taken(planted, empty_cache, recipe):
    source, _ = planted
    choice = {"quality": ["length", "exact"], "subset": {"documents": 9}, "held_out": 0.3, "sequence": 16}
    chosen = recipe(source, **choice)
    manifest = open_dataset(chosen).manifest
    told = manifest["quality"]
    assert manifest["train"]["documents"] == told["subset"]["documents"] == 9
    assert manifest["train"]["bytes"] == told["subset"]["bytes"]
    first, second = remark(manifest)
    assert first == (f"data.quality removes 3 of {told['read']['documents']} documents to train on: "
                     "length/words_least 1, exact 1, exact_of_held_out 1")
    assert second.startswith(f"data.subset takes 9 of {told['kept']['documents']} documents, ")
    assert remark({}) == []
    rows = manifest["train"]["examples"]
    assert often(chosen, manifest) == f"100 steps read 800 rows: the {rows} of the subset {800 / rows:.3g} times"
    assert often(recipe(source), manifest) == ""


def test_all_subsets_have_one_tokenizer_and_one_held_out_part(corpus, texts, empty_cache, recipe):
    source, found = corpus(itertools.chain(*texts)), []
    for documents_taken in (0, 4, 20):
        found.append(open_dataset(recipe(source, tokenizer="bpe", vocabulary=300, held_out=0.3, sequence=16, subset={
            "documents": documents_taken})).manifest)
    assert len({one["tokenizer"]["sha256"] for one in found}) == 1
    assert len({one["held_out"]["shards"][0]["sha256"] for one in found}) == 1
    assert [one["train"]["documents"] for one in found[1:]] == [4, 20]
    assert found[1]["train"]["tokens"] < found[2]["train"]["tokens"] < found[0]["train"]["tokens"]
