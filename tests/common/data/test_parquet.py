"""Columns of Parquet: the same rows as a table's, and lines for what is none."""

import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from twinscale.common.data.parquet import documents, labelled
from twinscale.common.data.tables import labelled as of_table
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.sources import Data

ROWS = [(f'say "{i}", twice', f"word {i}", "ab"[i % 2]) for i in range(9000)]  # more than are read at a time


@pytest.fixture
def write(tmp_path):
    """write("a.parquet", text=[...]): a file of these columns."""
    return lambda name, **columns: pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / name)


def test_rows_are_those_of_a_table(write, tmp_path):
    texts, seconds, labels = zip(*ROWS, strict=True)
    write("a.parquet", more=np.arange(9000), label=labels, text=texts, second=seconds)
    (tmp_path / "a.csv").write_text("text,second,label\n" + "".join(
        f'"{a.replace(chr(34), 2 * chr(34))}",{b},{c}\n' for a, b, c in ROWS))
    data = Data(field_2="second")
    found, wanted = labelled(data, f"{tmp_path}/*.parquet"), of_table(data, f"{tmp_path}/a.csv")
    assert [found.texts, found.seconds, found.labels] == [wanted.texts, wanted.seconds, wanted.labels]
    assert found.places[-1] == f"{tmp_path}/a.parquet, row 9000" and found.held_out is None
    names, read = zip(*documents(Data(), f"{tmp_path}/a.parquet"), strict=True)
    assert read == texts and names[4999] == "a.parquet:5000"


def test_a_folder_has_a_file_for_each_part_and_numbers_are_labels(write, tmp_path):
    write("train.parquet", text=["a", "b"], label=[1, 2])
    write("valid.parquet", text=["c"], label=[True])
    write("test.parquet", text=["d"], label=[3])
    found = labelled(Data(), str(tmp_path))
    assert found.texts == ("a", "b", "c") and found.labels == ["1", "2", "true"]
    assert found.held_out == [False, False, True]


@pytest.mark.parametrize(("columns", "said"), [
    ({"text": ["a", None], "label": ["x", "y"]}, 'row 2: has no text under data.field="text" .but null'),
    ({"text": ["a", "b"], "label": ["x", None]}, "row 2: has no label under data.label"),
    ({"text": [1, 2], "label": ["x", "y"]}, "row 1: has no text .*but int"),
    ({"text": ["a", ""], "label": ["x", "y"]}, "row 2: its text is empty"),
    ({"text": ["a"], "class": ["x"]}, 'a.parquet: no columns "label" among "text, class": set')])
def test_a_row_without_a_text_or_a_label_is_named(write, tmp_path, columns, said):
    write("a.parquet", **columns)
    with pytest.raises(BadInput, match=said):
        labelled(Data(), f"{tmp_path}/a.parquet")


def test_a_file_of_something_else_and_a_missing_package_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_text("text,label\n")
    with pytest.raises(BadInput, match="a.parquet: cannot be read as Parquet") as told:
        labelled(Data(), f"{tmp_path}/a.parquet")
    assert "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingEnvironment, match=r"needs the package pyarrow: install it, as .*twinscale\[parquet\]"):
        labelled(Data(), f"{tmp_path}/a.parquet")
