"""Column files: what is read of them, in which way they write entities, and what is refused with its line."""

import pytest

from twinscale.common.data.conll import CONLL, in_iob2, scheme_of
from twinscale.common.errors import BadInput
from twinscale.common.sources import Data

PLAIN = "Anna\tB-PER\nKeller\tI-PER\nsmiled\tO\n\nBonn\tB-LOC\n"


@pytest.fixture
def read(tmp_path):
    """read(text, ...): the Labelled of a file with that text (or bytes), with keys of [data]."""

    def labelled(text, **keys):
        path = tmp_path / "a.conll"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return CONLL.labelled(Data(source=f"conll:{path}", **keys), str(path))

    return labelled


def test_sentences_are_parted_by_blank_lines_and_documents_and_comments_left_out(read):
    text = ("-DOCSTART- -X- -X- O\n\n# id 7\nEU NNP B-NP B-ORG\n# SYM O O\ncalls VBZ B-VP O\n \n\n# SYM O O\n"
            "-DOCSTART- -X- O O\nRio NNP B-NP B-LOC")
    for change in (text, text.replace("\n", "\r\n"), "\ufeff" + text.replace(" ", "\t")):
        if "\t" in change:  # the comment has tabs then
            change = change.replace("#\tid\t7", "# id 7")
        found = read(change)
        assert list(found.texts) == [["EU", "#", "calls"], ["#"], ["Rio"]]
        assert list(found.labels) == [["B-ORG", "O", "O"], ["O"], ["B-LOC"]]
        assert [place.rpartition(":")[2] for place in found.places] == ["4", "9", "11"] and found.entities


def test_lines_end_where_they_end_and_nowhere_else(read):
    found = read("a\u2028b O\nc\x85d B-X\n".replace(" ", "\t"))
    assert list(found.texts) == [["a\u2028b", "c\x85d"]]


def test_words_and_tags_may_stand_in_any_columns(read):
    text = "1 Anna B-PER _\n2 left O _\n"
    found = read(text, field="2", label="3")
    assert (found.texts, found.labels) == ([["Anna", "left"]], [["B-PER", "O"]])
    assert read(text, field="2", label="-2").labels == found.labels
    for keys, said in (({"field": "word"}, 'data.field="word"'), ({"label": "5"}, "4 columns, and data.field"),
                       ({"label": "1"}, "want two of others"), ({"label": "0"}, "1 is the first, -1 the last"),
                       ({}, 'a.conll:1: "_" is no tag of an entity')):
        with pytest.raises(BadInput, match=said):
            read(text, **keys)


@pytest.mark.parametrize(("scheme", "tags", "made", "repaired"), [
    ("IOB2", "O B-A I-A B-A O I-A I-B", "O B-A I-A B-A O B-A B-B", [5, 6]),
    ("IOB1", "I-A I-A B-A I-B O I-B", "B-A I-A B-A B-B O B-B", []),
    ("BIOES", "B-A I-A E-A S-A S-B O B-B E-B", "B-A I-A I-A B-A B-B O B-B I-B", []),
    ("BIOES", "E-A I-A E-A O S-A I-A B-B E-A", "B-A B-A I-A O B-A B-A B-B B-A", [0, 1, 5, 7])])
def test_tags_of_each_way_are_read_as_seqeval_reads_them(scheme, tags, made, repaired):
    assert in_iob2(tags.split(), scheme) == (made.split(), repaired)


@pytest.mark.parametrize(("rows", "scheme"), [
    (["B-A I-A O", "B-B"], "IOB2"), (["I-A I-A O", "I-A B-A"], "IOB1"), (["O I-A", "O B-A"], "IOB2"),
    (["S-A O"], "BIOES"), (["B-A E-A"], "BIOES"), (["O O"], "IOB2"), (["I-A I-B"], "IOB1")])
def test_the_way_is_found(rows, scheme):
    assert scheme_of([row.split() for row in rows]) == scheme


def test_a_tag_that_continues_nothing_is_counted_and_its_first_line_known(read):
    found = read("a B-X\nb I-X\n\nc O\nd I-X\ne I-Y\n")
    assert found.told == {"tags": "IOB2", "repaired": 2, "repaired_first": "a.conll:5"}
    assert found.labels[1] == ["O", "B-X", "B-Y"]
    assert read("a I-X\nb B-X\n").told == {"tags": "IOB1"}
    assert read("a I-X\nb B-X\n", tags="IOB2").told["repaired"] == 1


def test_a_way_that_nobody_reads_is_no_other_one(tmp_path):
    (tmp_path / "a").write_text(PLAIN)
    with pytest.raises(BadInput, match="data.tags='IOBES': nothing here is called so"):
        CONLL.labelled(Data.model_construct(field="text", label="label", tags="IOBES", max_documents=0), tmp_path / "a")


def test_a_word_that_is_empty_is_named(read):
    with pytest.raises(BadInput, match="a.conll:1: a word or a tag is empty"):
        read("a\t \tO\n", field="2")


def test_plain_tags_are_classes(read):
    found = read("# of words\nthe\tDET\n#\tNOUN\n\n#\tSYM\n", tags="plain")
    assert found.labels == [["DET", "NOUN"], ["SYM"]] and not found.entities and found.told == {}


@pytest.mark.parametrize(("text", "said"), [
    ("Anna B-PER\nleft\n", r"a.conll:2: 1 columns, but line 1 has 2"),
    ("Anna B-PER\nleft OUT\n", r'a.conll:2: "OUT" is no tag of an entity: write O, or B-, I-, E-, S- and a type'),
    ("Anna B-\n", r'a.conll:1: "B-" is no tag'),
    ("Anna\n", "1 columns"), ("\n# nothing\n", "has no sentence"), (b"\xff\xfe O\n", "is not valid UTF-8")])
def test_what_is_no_column_file_is_one_line_with_its_place(read, text, said):
    with pytest.raises(BadInput, match=said) as told:
        read(text)
    assert "\n" not in str(told.value)


def test_a_folder_has_files_to_train_on_and_to_hold_out(tmp_path):
    for name, text in (("eng.train", PLAIN), ("eng.testa", "Oslo B-LOC\n"), ("eng.testb", "broken\n")):
        (tmp_path / name).write_text(text)
    data = Data(source=f"conll:{tmp_path}")
    found = CONLL.labelled(data, str(tmp_path))
    assert list(found.texts) == [["Anna", "Keller", "smiled"], ["Bonn"], ["Oslo"]]
    assert list(found.held_out) == [False, False, True]
    assert list(CONLL.labelled(data.model_copy(update={"max_documents": 1}), str(tmp_path)).held_out) == [False, True]
    before = CONLL.fingerprint(data, str(tmp_path))
    (tmp_path / "eng.testa").write_text("Oslo O\n")
    assert CONLL.fingerprint(data, str(tmp_path)) != before
