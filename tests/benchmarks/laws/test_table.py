"""Results of anybody: what is missing of C = 6 N D is computed, and what is wrong is named with its row."""

import numpy as np
import pandas
import pytest

from twinscale.benchmarks.laws.forms import FORMS
from twinscale.benchmarks.laws.table import read_table
from twinscale.common.errors import BadInput

FORM = FORMS["chinchilla"]
N, D = np.geomspace(1e7, 1e9, 8), np.geomspace(1e9, 1e10, 8)
LOSSES = np.linspace(4, 2, 8)


def written(folder, columns, name="results.csv"):
    frame = pandas.DataFrame(columns)
    path = folder / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("columns", [
    {"N": N, "D": D}, {"N": N, "C": 6 * N * D}, {"D": D, "C": 6 * N * D}, {"params": N, "tokens": D}])
def test_one_of_three_may_be_missing_and_names_may_be_others(tmp_path, columns):
    for name in ("results.csv", "results.parquet"):
        table = read_table(written(tmp_path, columns | {"loss": LOSSES}, name), FORM, {})
        assert np.allclose(table.columns["N"], N) and np.allclose(table.columns["D"], D)
        assert np.allclose(table.columns["C"], 6 * N * D) and np.allclose(table.y, LOSSES)
        assert len(set(table.runs)) == 8


def test_columns_are_named_and_rows_left_out(tmp_path):
    columns = {"size": N, "D": D, "nats": LOSSES, "diverged": [True] + [False] * 7, "run": [1, 1, 2, 2, 3, 3, 4, 4]}
    table = read_table(written(tmp_path, columns), FORM, {"N": "size", "loss": "nats"}, ["diverged"], 1)
    assert len(table.y) == 6 and table.y.max() < LOSSES[1] and table.dropped == {"diverged": 1, "highest": 1}
    assert table.runs.tolist() == ["2", "2", "3", "3", "4", "4"]


@pytest.mark.parametrize("changes,words", [
    ({"loss": np.where(np.arange(8) == 3, -1, LOSSES)}, r"row 4: loss = -1.*finite number above 0"),
    ({"N": ["x"] + list(N[1:])}, r"row 1: N = x"),
    ({"loss": np.where(np.arange(8) == 7, np.inf, LOSSES)}, r"row 8: loss = inf"),
    ({"loss": None}, r"has no column loss among .*--column loss=NAME")])
def test_a_value_that_is_none_is_named_with_its_row(tmp_path, changes, words):
    columns = {name: column for name, column in ({"N": N, "D": D, "loss": LOSSES} | changes).items()
               if column is not None}
    with pytest.raises(BadInput, match=words):
        read_table(written(tmp_path, columns), FORM, {})


@pytest.mark.parametrize("more,words", [
    ({"named": {"N": "parms"}}, r"--column N=parms: .* has no such column.*params"),
    ({"drop": ["divergd"]}, r"--drop divergd: .* has no such column.*diverged"),
    ({"drop_highest": 3}, r"5 rows for 5 parameters")])
def test_what_is_asked_of_a_table_is_there(tmp_path, more, words):
    path = written(tmp_path, {"params": N, "D": D, "loss": LOSSES, "diverged": 0})
    with pytest.raises(BadInput, match=words):
        read_table(path, FORM, **({"named": {}} | more))


@pytest.mark.parametrize("name,content,words", [
    ("x.json", b"{}", "are .csv or .parquet"), ("x.parquet", b"PAR1 nothing", "cannot be read as PARQUET"),
    ("x.csv", b"", "cannot be read as CSV")])
def test_files_that_are_no_tables_are_refused_in_a_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        read_table(str(tmp_path / name), FORM, {})
    assert "\n" not in str(caught.value)
