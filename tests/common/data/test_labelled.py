"""Labelled text as arrays: what is aligned, cut, split, said and kept."""

import numpy as np
import pytest
import tokenizers

from twinscale.common.data import open_dataset
from twinscale.common.data.arrays import unread
from twinscale.common.data.kept import keep, kept_in, open_kept
from twinscale.common.errors import BadInput
from twinscale.common.recipe.schema import Recipe

WORDS = ["Anna Keller met Tomas in Basel", "Basel is old", "Tomas left Basel", "Keller lives in Lyon", "it rained"]
TAGS = ["B-PER I-PER O B-PER O B-LOC", "B-LOC O O", "B-PER O B-LOC", "B-PER O O B-LOC", "O O"]


def columns(words=WORDS, tags=TAGS):
    return "\n".join("\n".join(f"{word}\t{tag}" for word, tag in zip(*row, strict=True)) + "\n" for row in (
        (a.split(), b.split()) for a, b in zip(words, tags, strict=True)))


@pytest.fixture
def recipe(tmp_path):
    """recipe(source, ...): an encoder over labelled text, with keys of [data]; `files` are written beside it."""

    def make(source="conll:.", head="tokens", files=None, objective="cross-entropy", **data):
        for name, text in (files or {}).items():
            (tmp_path / name).write_text(text)
        scheme, _, path = source.partition(":")
        data = {"source": f"{scheme}:{tmp_path / path}", "tokenizer": "wordpiece", "vocabulary": 300, "sequence": 16,
                "held_out": 0.3} | data
        return Recipe.model_validate({"name": "t", "data": data, "objective": {"name": objective}, "model": {
            "family": "encoder", "layers": 1, "width": 8, "heads": 2, "vocabulary": 400, "positions": 64,
            "head": head}, "train": {"global_batch": 2}})

    return make


PARTS = {"train.txt": columns(), "valid.txt": columns(["Basel met Anna"], ["B-LOC O B-PER"])}


def vocabulary_of(folder):
    """A vocab.txt in which some words are one piece and others several."""
    letters = sorted({c for word in WORDS for c in word if c != " "})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Anna", "met", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    return str(folder / "vocab.txt")


def test_the_first_piece_of_a_word_has_its_tag_and_no_other_weighs_anything(recipe, tmp_path):
    dataset = open_dataset(recipe(files=PARTS, sequence=40, tokenizer=vocabulary_of(tmp_path)))
    names = dataset.manifest["labels"]
    assert names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"] and dataset.classes == 5
    rows = dataset.train.take(np.arange(len(dataset.train)))
    assert {name: x.shape[1:] for name, x in rows.items()} == dict.fromkeys(
        ("ids", "mask", "types", "labels", "weights"), (40,))
    pieces = tokenizer_of(dataset)
    for row, (words, tags) in enumerate(zip(WORDS, TAGS, strict=True)):
        judged = np.flatnonzero(rows["weights"][row])
        assert [names[i] for i in rows["labels"][row][judged]] == tags.split()
        assert not rows["labels"][row][rows["weights"][row] == 0].any()
        counts = [len(pieces.encode(word, add_special_tokens=False).ids) for word in words.split()]
        assert list(judged) == list(1 + np.cumsum([0, *counts[:-1]])) and max(counts) > 1
        length = sum(counts) + 2
        assert rows["mask"][row].tolist() == [1] * length + [0] * (40 - length)
        assert rows["ids"][row][0] == 2 and rows["ids"][row][length - 1] == 3 and not rows["ids"][row][length:].any()


def tokenizer_of(dataset):
    return tokenizers.Tokenizer.from_file(str(dataset.tokenizer))


def test_held_out_rows_are_those_of_the_validation_file(recipe):
    dataset = open_dataset(recipe(files=PARTS))
    assert (len(dataset.train), len(dataset.held_out)) == (5, 1) and "shared" not in dataset.manifest
    held_out = dataset.held_out.take(np.array([0]))
    judged = held_out["weights"][0] > 0
    assert [dataset.manifest["labels"][i] for i in held_out["labels"][0][judged]] == ["B-LOC", "O", "B-PER"]
    other = open_dataset(recipe(files=PARTS | {"valid.txt": columns(WORDS[:2], TAGS[:2])}))
    assert other.manifest["shared"] == 2 and "2 held-out texts are among those to train on" in unread(other.manifest)
    assert other.manifest["sha256"] != dataset.manifest["sha256"]


def test_without_one_a_rows_text_decides_whatever_the_tokenizer(recipe):
    words = [f"word{i} Basel" for i in range(40)]
    files = {"one.txt": columns(words, ["O B-LOC"] * 40)}
    sides = []
    for vocabulary in (257, 400):
        dataset = open_dataset(recipe("conll:one.txt", files=files, vocabulary=vocabulary))
        sides.append(dataset.held_out.members.tolist())
    assert sides[0] == sides[1] and 2 < len(sides[0]) < 30


def test_the_vocabulary_is_learnt_from_what_is_trained_on_alone(recipe):
    files = PARTS | {"valid.txt": columns(["Quux " * 3], ["O O O"])}
    assert "Q" not in tokenizer_of(open_dataset(recipe(files=files))).get_vocab()


def test_what_is_cut_is_counted_and_said(recipe):
    files = {"train.txt": columns(["a a B B a C", "a C"], ["O O B-X I-X O B-X", "O B-X"]),
             "valid.txt": columns(["a B", "B"], ["O B-X", "B-X"])}
    whole = open_dataset(recipe(files=files)).manifest
    assert whole["longest"] == 8 and not whole.keys() & {"rows_cut", "words_cut", "entities_cut"}
    assert unread(whole) == ""
    cut = open_dataset(recipe(files=files, sequence=5)).manifest  # a a B | B a C: one goes on, one begins behind
    assert (cut["rows_cut"], cut["words_cut"], cut["entities_cut"], cut["longest"]) == (1, 3, 2, 8)
    assert unread(cut) == ("1 rows are longer than data.sequence, and cut, 3 words and 2 entities of them: "
                           "data.sequence=8 cuts none")
    with pytest.raises(BadInput, match="data.sequence=2: leaves no room beside 2 special pieces"):
        open_dataset(recipe(files=files, sequence=2))


def test_tags_that_continue_nothing_and_labels_that_nothing_trains_are_said(recipe):
    files = PARTS | {"train.txt": columns(["a b", "c d"], ["B-PER O", "O I-PER"])}
    said = unread(open_dataset(recipe(files=files)).manifest)
    assert "1 tags continue no entity (train.txt:5 is the first): each begins one, as seqeval reads them" in said
    assert "held-out texts alone have the label B-LOC: none trains it" in said


def test_types_may_be_given_and_others_are_refused_with_their_place(recipe):
    assert open_dataset(recipe(files=PARTS, labels=["PER", "LOC", "ORG"])).manifest["labels"] == [
        "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
    with pytest.raises(BadInput, match=r'train.txt:1: "B-LOC" is none of data.labels: correct it, or add it to PER'):
        open_dataset(recipe(files=PARTS, labels=["PER"]))
    with pytest.raises(BadInput, match="has no entity, but O alone"):
        open_dataset(recipe("conll:o.txt", files={"o.txt": "a O\nb O\n"}))


TABLE = "text,label\n" + "".join(f'"text {i}, of {"fun" if i % 3 else "work"}",{"ab"[i % 2]}\n' for i in range(30))


def test_a_table_has_a_label_a_row_and_its_names_are_in_the_manifest(recipe):
    dataset = open_dataset(recipe("csv:a.csv", "sequence", {"a.csv": TABLE}))
    assert dataset.manifest["labels"] == ["a", "b"] and dataset.classes == 2
    rows = dataset.train.take(np.arange(len(dataset.train)))
    assert rows["labels"].shape == rows["weights"].shape == (len(dataset.train),) and rows["weights"].all()
    assert len(dataset.train) + len(dataset.held_out) == 30
    assert sorted(rows["labels"].tolist() + dataset.held_out.take(np.arange(len(dataset.held_out)))["labels"].tolist()
                  ) == [0] * 15 + [1] * 15


def test_tsv_and_jsonl_and_a_table_without_header_are_the_same_rows(recipe):
    rows = [(f'say "{i}"', "ab"[i % 2]) for i in range(30)]
    files = {"a.tsv": "label\ttext\n" + "".join(f"{label}\t{text}\n" for text, label in rows),
             "b.csv": "".join(f'"{text.replace(chr(34), 2 * chr(34))}",{label}\n' for text, label in rows),
             "c.jsonl": "".join(f'{{"label": "{label}", "text": "{text.replace(chr(34), chr(92) + chr(34))}"}}\n'
                                for text, label in rows)}
    found = {open_dataset(recipe(source, "sequence", files, **keys)).manifest["sha256"] for source, keys in (
        ("csv:a.tsv", {"quotes": False}), ("csv:b.csv", {"header": False}), ("jsonl:c.jsonl", {}))}
    assert len(found) == 1


def test_whole_numbers_are_classes_in_their_order_and_numbers_are_read_by_what_reads_numbers(recipe):
    table = "text,label\n" + "".join(f"text {i},{i % 12}\n" for i in range(40))
    classes = open_dataset(recipe("csv:a.csv", "sequence", {"a.csv": table}))
    assert classes.manifest["labels"] == [str(i) for i in range(12)]
    table = table.replace(",3\n", ",-3.5\n")
    dataset = open_dataset(recipe("csv:a.csv", "sequence", {"a.csv": table}, objective="squared-error"))
    labels = dataset.train.take(np.arange(len(dataset.train)))["labels"]
    assert labels.dtype == np.float32 and labels.min() == -3.5 and dataset.classes == 0
    assert "labels" not in dataset.manifest


@pytest.mark.parametrize(("table", "keys", "said"), [
    ("text,label\na,x\nb,x\n", {}, 'data.label="label": one label, "x", in all 2 rows'),
    ("text,label\na,1\nb,2\nc,3\n", {}, "as many labels as rows, 3: .*squared-error"),
    ("text,label\na,x\nb,\n", {}, "a.csv:3: its label is empty"),
    ("text,label\na,x\n,y\n", {}, "a.csv:3: its text is empty"),
    ("text,label\na,x\nb,z\n", {"labels": ["x", "y"]}, 'a.csv:3: "z" is none of data.labels'),
    ("text,class\na,x\n", {}, 'a.csv:1: no column "label" among "text, class"'),
    ("a,x\nb,y\n", {"header": False, "label": "3"}, "a.csv:1: 2 fields, and no column 3"),
    ("a,x\nb,y\n", {"header": False, "label": "kind"}, 'data.field or data.label="kind": .*write a number'),
    ("a,x\nb\n", {"header": False}, "a.csv:2: 1 fields, but the first row has 2"),
    ('text,label\na "b" c,x\n"a" b,x\n', {}, "a.csv:3: is no CSV: .*set data.quotes = false"),
    ("text,label\na,1\nb,much\n", {"objective": "squared-error"}, 'a.csv:3: "much" is no number'),
    ('text,label\na,"x\ny"\nb,x\nc,x\n', {}, r'the label "x.*y" is no name, a line of 80 characters'),
    (f"text,label\na,{81 * 'x'}\nb,x\nc,x\n", {}, "x{20,}.* is no name"),
    ("text,label\na,x\nb,y\n", {"labels": ["x", "y", "x"]}, 'the label "x" is there twice'),
    ("text,label\n", {}, "has no row")])
def test_a_table_that_cannot_be_judged_is_one_line(recipe, table, keys, said):
    with pytest.raises(BadInput, match=said) as told:
        open_dataset(recipe("csv:a.csv", "sequence", {"a.csv": table}, **keys))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("line", "said"), [
    ('{"text": "a"}', "has no label under data.label"), ('{"text": "a", "label": [1]}', "but list"),
    ('{"text": "a", "label": "\\ud800"}', "half a surrogate"), ('{"label": "a"}', "has no text under data.field")])
def test_a_line_of_json_without_its_label_is_named(recipe, line, said):
    with pytest.raises(BadInput, match=f"c.jsonl:2: .*{said}"):
        open_dataset(recipe("jsonl:c.jsonl", "sequence", {"c.jsonl": f'{{"text": "a", "label": 1}}\n{line}\n'}))


def test_a_vocabulary_that_does_not_fit_its_table_is_refused(recipe, tmp_path):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"x{i}" for i in range(500)), "Basel"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    with pytest.raises(BadInput, match="ids: holds 504 in row 0, but the table of model.vocabulary=400"):
        open_dataset(recipe(files=PARTS, tokenizer=str(tmp_path / "vocab.txt")))


def test_a_run_goes_on_with_the_tokenizer_that_it_began_with(recipe, tmp_path):
    asked = recipe(files=PARTS)
    dataset, run = open_dataset(asked), tmp_path / "run"
    (run / "data").mkdir(parents=True)
    keep(run, dataset)
    kept = kept_in(run, dataset.manifest)
    assert open_kept(asked, kept).manifest == dataset.manifest
    changed = recipe(files={"train.txt": columns([f"Q{w}" for w in WORDS], TAGS)})
    with pytest.raises(BadInput, match="its data is no longer what it began with"):
        open_kept(changed, kept)
    again = open_kept(changed, kept, accept=True)
    assert again.manifest["tokenizer"] == dataset.manifest["tokenizer"]
    assert again.tokenizer.read_bytes() == dataset.tokenizer.read_bytes()
    (run / "data/tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="not the tokenizer that was trained with"):
        kept_in(run, dataset.manifest)


def test_a_broken_folder_of_the_cache_is_made_again(recipe, empty_cache, capsys):
    asked = recipe(files=PARTS)
    first = open_dataset(asked).manifest
    folder, = empty_cache.glob("pieces-*")
    (folder / "told.json").write_text("[]")
    assert open_dataset(asked).manifest == first and "made again" in capsys.readouterr().err


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_tokenizers_are_of_what_a_model_reads(recipe, tokenizer):
    with pytest.raises(ValueError, match=f'data.tokenizer="{tokenizer}" is for text that is packed'):
        recipe(files=PARTS, tokenizer=tokenizer)
    with pytest.raises(ValueError, match='"wordpiece" is for labelled text, but model.family="decoder" reads text'):
        Recipe.model_validate({"name": "t", "data": {"tokenizer": "wordpiece"}, "model": {"family": "decoder"}})
    with pytest.raises(ValueError, match="'bytes', 'bpe', 'wordpiece', or the path of a tokenizer.json"):
        recipe(files=PARTS, tokenizer="wordpieces")


def test_metrics_of_classes_are_refused_where_labels_are_numbers(recipe):
    asked = recipe("csv:a.csv", "sequence", {"a.csv": TABLE}, objective="squared-error")
    with pytest.raises(ValueError, match='train.metrics: "report" is of classes, and objective.name=squared-error has'):
        asked.with_values(train={"metrics": ["report"]})


# ---- pairs of texts

LONG = [("Anna met", "Anna met Anna met Anna met"), ("Anna met Anna met Anna met", "met"), ("met " * 4, "Anna " * 4)]


def test_a_pair_is_one_row_of_two_types_and_the_longer_text_is_cut_first(recipe, tmp_path):
    table = "premise,hypothesis,label\n" + "".join(f"{a},{b},{'xy'[i % 2]}\n" for i, (a, b) in enumerate(LONG * 4))
    lines = "".join(f'{{"premise": "{a}", "hypothesis": "{b}", "label": "{"xy"[i % 2]}"}}\n'
                    for i, (a, b) in enumerate(LONG * 4))
    asked = {"tokenizer": vocabulary_of(tmp_path), "field": "premise", "field_2": "hypothesis", "sequence": 8}
    files, hashes = {"p.csv": table, "valid.csv": table, "p.jsonl": lines}, set()
    for source in ("csv:p.csv", "jsonl:p.jsonl"):
        dataset = open_dataset(recipe(source, "sequence", files, **asked))
        hashes.add(dataset.manifest["sha256"])
    assert len(hashes) == 1 and dataset.manifest["rows_cut"] == 12 and dataset.manifest["longest"] == 11
    found = {name: np.concatenate([part.take(np.arange(len(part)))[name] for part in (dataset.train, dataset.held_out)])
             for name in ("ids", "mask", "types")}
    anna, met = 4, 5
    assert set(map(tuple, found["ids"].tolist())) == {
        (2, anna, met, 3, anna, met, anna, 3), (2, anna, met, anna, met, 3, met, 3),
        (2, met, met, met, 3, anna, anna, 3)}
    ends = np.argmax(found["ids"] == 3, 1)  # [SEP] behind the first text is of its type
    assert found["mask"].all() and np.array_equal(found["types"] == 1, np.arange(8) > ends[:, None])
    whole = open_dataset(recipe("csv:p.csv", "sequence", files, **asked | {"sequence": 12}))
    assert "rows_cut" not in whole.manifest and whole.manifest["longest"] == 11
    rows = whole.train.take(np.arange(len(whole.train)))
    assert not rows["types"][rows["mask"] == 0].any() and (rows["ids"] == 3).sum(1).tolist() == [2] * len(rows["ids"])


@pytest.mark.parametrize(("source", "files", "keys", "said"), [
    ("conll:one.txt", {"one.txt": PARTS["train.txt"]}, {"field": "text"}, "data.field_2=.* has one text a row"),
    ("csv:a.csv", {"a.csv": "text,label\na,x\n"}, {}, 'no column "second"'),
    ("csv:a.csv", {"a.csv": "text,second,label\na,b,x\na,,y\n"}, {}, "a.csv:3: its second text is empty"),
    ("csv:a.csv", {"a.csv": "text,second,label\na,b,x\na,b,y\na,c,y\n"}, {"sequence": 4}, "no room beside 3 special"),
    ("jsonl:a.jsonl", {"a.jsonl": '{"text": "a", "label": "x"}\n'}, {}, "a.jsonl:1: has no text under data.field_2")])
def test_a_second_text_that_is_not_there_is_said(recipe, source, files, keys, said):
    with pytest.raises(BadInput, match=said):
        open_dataset(recipe(source, "sequence", files, field_2="second", **keys))


def test_rules_of_quality_remove_rows_to_train_on_with_their_labels(recipe):
    rows = [(f"this is text {i} and {'good' if i % 2 else 'bad'}", "ab"[i % 2]) for i in range(30)]
    lines = {part: "text\tlabel\n" + "\n".join("\t".join(row) for row in some) + "\n" for part, some in (
        ("train.tsv", [*rows[:20], (rows[25][0].upper(), "b"), (rows[3][0] + "!", "a")]), ("valid.tsv", rows[20:]))}
    asked = {"source": "csv:.", "head": "sequence", "files": lines, "sequence": 32}
    whole, clean = open_dataset(recipe(**asked)), open_dataset(recipe(**asked, quality=["exact"]))
    assert (len(whole.train), len(clean.train), len(clean.held_out)) == (22, 20, 10)
    every = np.arange(20)
    assert np.array_equal(clean.train.take(every)["labels"], whole.train.take(every)["labels"])
    assert unread(clean.manifest).startswith("data.quality removes 2 of 22 documents to train on: exact 1, "
                                             "exact_of_held_out 1")
    small = open_dataset(recipe(**asked, quality=["exact"], subset={"documents": 5}))
    assert len(small.train) == 5 and len(small.held_out) == 10
    assert small.manifest["tokenizer"] == clean.manifest["tokenizer"]
