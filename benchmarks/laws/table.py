"""Results of runs as a table: CSV or Parquet, from `twinscale study` or from anywhere, a run's end, or a checkpoint of
it, a row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from twinscale.benchmarks.laws.forms import Form
from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.files.access import check_regular, read_bytes, shown

# What a column is called elsewhere, where the table has none of ours: the first that is there is taken.
ALSO = {"N": ("params", "parameters", "n_params", "model_size"), "D": ("tokens", "n_tokens", "training_tokens"),
        "C": ("flops", "compute", "training_flop"), "loss": ("eval_loss", "final_loss", "val_loss", "test_loss"),
        "unique_D": ("unique_tokens",), "run": ("run_id", "recipe")}
ZERO = ("sparsity", "chance", "accuracy")  # columns of shares, from 0 to below 1
MOST = 10_000_000  # rows


class Table(NamedTuple):
    """Rows of results."""

    columns: dict[str, np.ndarray]  # by the names that laws have
    y: np.ndarray  # (rows,): what is fitted
    runs: np.ndarray  # (rows,): the run that each is of
    dropped: dict[str, int]  # why rows were left out, and how many
    path: str


def read_table(path: str, form: Form, named: Mapping[str, str], drop: Sequence[str] = (), drop_highest: int = 0,
               constants: Mapping[str, float] | None = None) -> Table:
    """The rows of a file, with the columns that a law wants; of C = 6 N D any one may be missing.

    Args:
      named: {a law's column: its name in the file}.
      drop: columns whose rows are left out where they say true, 1 or yes.
      drop_highest: how many rows of the largest y are left out.
      constants: columns that a law wants and that may be missing, each with its one value.
    Of a study's table the rows of runs' ends alone are read. Raises BadInput with file, row and column where a value
    is none.
    """
    frame = _frame(path)
    total = len(frame)
    if total > MOST:
        raise BadInput(f"{shown(path)}: {total:,} rows: at most {MOST:,} are read")
    dropped: dict[str, int] = {}
    kept = np.ones(total, bool)
    for column in drop:
        if column not in frame:
            raise BadInput(f"--drop {shown(column)}: {shown(path)} has no such column, but "
                           f"{shown(', '.join(map(str, frame)))}{did_you_mean(column, map(str, frame))}")
        out = frame[column].astype(str).str.strip().str.lower().isin(["1", "1.0", "true", "yes"]).to_numpy()
        dropped[column] = int((out & kept).sum())
        kept &= ~out
    if {"state", "reason"} <= {*frame}:  # of a study, which keeps what failed and evaluations on the way
        out = (frame["state"] != "finished").to_numpy()
        dropped["not finished"] = int((out & kept).sum())
        kept &= ~out
    columns = _with_compute({name: found for name in dict.fromkeys([*form.columns, "N", "D", "C"])
                             if (found := _values(frame, path, name, named, kept)) is not None})
    columns |= {name: np.full(int(kept.sum()), value) for name, value in (constants or {}).items()
                if name in form.columns and name not in columns}
    y = _values(frame, path, form.y, named, kept)
    lacking = [name for name in form.columns if name not in columns] + ([form.y] if y is None else [])
    if lacking:
        raise BadInput(f"{shown(path)}: has no column {', '.join(lacking)} among {shown(', '.join(map(str, frame)))}: "
                       f"name it, --column {lacking[0]}=NAME")
    assert y is not None
    run = named.get("run") or next((name for name in ("run", *ALSO["run"]) if name in frame), None)
    runs = frame[run].astype(str).to_numpy()[kept] if run else np.arange(total).astype(str)[kept]
    if drop_highest:
        highest = np.sort(np.argsort(y, kind="stable")[-drop_highest:])
        keep = np.setdiff1d(np.arange(len(y)), highest)
        columns, y, runs = {name: column[keep] for name, column in columns.items()}, y[keep], runs[keep]
        dropped["highest"] = len(highest)
    if len(y) < len(form.parameters) + 1:
        raise BadInput(f"{shown(path)}: {len(y)} rows for {len(form.parameters)} parameters of --law {form.name}: "
                       f"a fit wants at least {len(form.parameters) + 1}")
    return Table(columns, y, runs, dropped, path)


def _frame(path):
    """A pandas frame of a file that is CSV or Parquet by its name."""
    import io

    import pandas

    check_regular(path)
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise BadInput(f"{shown(path)}: results are .csv or .parquet")
    content = io.BytesIO(read_bytes(path))
    try:
        return pandas.read_parquet(content) if suffix == ".parquet" else pandas.read_csv(content)
    except Exception as error:  # of pyarrow and pandas, each its own kind
        raise BadInput(f"{shown(path)}: cannot be read as {suffix[1:].upper()}: {shown(error)}") from None


def _values(frame, path, name, named, kept) -> np.ndarray | None:
    """A column's numbers as float64, of the rows that are kept; None where the file has it not."""
    column = named.get(name) or next((other for other in (name, *ALSO.get(name, ())) if other in frame), None)
    if column is None:
        return None
    if column not in frame:
        raise BadInput(f"--column {name}={shown(column)}: {shown(path)} has no such column, but "
                       f"{shown(', '.join(map(str, frame)))}{did_you_mean(column, map(str, frame))}")
    import pandas

    numbers = pandas.to_numeric(frame[column], errors="coerce").to_numpy(float)
    low = 0.0 if name in ZERO else np.nextafter(0, 1)
    bad = np.flatnonzero(kept & ~((numbers >= low) & np.isfinite(numbers) & ((name not in ZERO) | (numbers < 1))))
    if len(bad):
        wanted = "a share from 0 to below 1" if name in ZERO else "a finite number above 0"
        raise BadInput(f"{shown(path)}: row {bad[0] + 1}: {shown(column)} = {shown(frame[column].iloc[bad[0]])}: "
                       f"{wanted} is wanted ({len(bad)} rows so); leave them out, --drop COLUMN")
    return numbers[kept]


def _with_compute(columns: dict[str, Any]) -> dict[str, Any]:
    """With the one of N, D and C = 6 N D that is missing."""
    if {"N", "D"} <= columns.keys():
        return {"C": 6 * columns["N"] * columns["D"]} | columns
    if {"N", "C"} <= columns.keys():
        return {"D": columns["C"] / (6 * columns["N"])} | columns
    if {"D", "C"} <= columns.keys():
        return {"N": columns["C"] / (6 * columns["D"])} | columns
    return columns
