"""The parts of a data set, by the names of its files."""

import pytest

from twinscale.common.data.parts import column_number, in_parts, parts_of
from twinscale.common.errors import BadInput
from twinscale.common.sources import Data


@pytest.mark.parametrize(("names", "found"), [
    (["train.txt", "valid.txt", "test.txt", "README"], {"train": "train.txt", "held_out": "valid.txt"}),
    (["eng.train", "eng.testa", "eng.testb"], {"train": "eng.train", "held_out": "eng.testa"}),
    (["wnut17train.conll", "dev-2.conll", "Validated"], {"train": "wnut17train.conll", "held_out": "dev-2.conll"}),
    (["train.csv", "training-notes.md"], {"train": "train.csv"})])
def test_names_tell_the_parts(tmp_path, names, found):
    for name in names:
        (tmp_path / name).write_text("")
    assert {part: path.name for part, path in parts_of(tmp_path).items()} == found
    assert parts_of(tmp_path / names[0]) == {"train": tmp_path / names[0]}


def test_endings_may_be_asked_for(tmp_path):
    for name in ("train.csv", "train.txt", "valid.txt"):
        (tmp_path / name).write_text("")
    assert [path.name for path in parts_of(tmp_path, (".csv",)).values()] == ["train.csv"]


@pytest.mark.parametrize(("names", "said"), [
    (["train.txt", "a.train"], 'a.train and train.txt are both the part "train"'),
    (["valid.txt"], "is a folder: give the path of a file, or name those in it train, .* there is valid.txt"),
    ([], "there are none")])
def test_what_has_no_part_to_train_on_or_two_is_refused(tmp_path, names, said):
    for name in names:
        (tmp_path / name).write_text("")
    with pytest.raises(BadInput, match=said):
        parts_of(tmp_path)
    with pytest.raises(BadInput, match="data.source: .*none cannot be read"):
        parts_of(tmp_path / "none")


def test_columns_are_numbered_from_either_end():
    assert [column_number(text, {"text": 7}, "data.field") for text in ("text", "1", "3", "-1")] == [7, 0, 2, -1]
    for text in ("0", "word", "1.5", "-", ""):
        with pytest.raises(BadInput, match="data.field=.*write a number"):
            column_number(text, {}, "data.field")


def test_rows_of_each_part_are_marked_and_cut(tmp_path):
    rows = {"t": [("t:1", "a", " x "), ("t:2", "b", "y")], "v": [("v:1", "c", "x")]}
    found = in_parts(Data(max_documents=1), {"train": "t", "held_out": "v"}, rows.get)
    assert (list(found.texts), found.labels, list(found.held_out)) == (["a", "c"], ["x", "x"], [False, True])
    assert in_parts(Data(), {"train": "t"}, rows.get).held_out is None
    for row, said in ((("t:9", " ", "x"), "t:9: its text is empty"), (("t:9", "a", ""), "t:9: its label is empty")):
        with pytest.raises(BadInput, match=said):
            in_parts(Data(), {"train": "t"}, lambda part, row=row: [row])
