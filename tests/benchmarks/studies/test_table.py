"""The table of a study is typed, whatever is missing in it."""

from types import SimpleNamespace

import pytest

from twinscale.benchmarks.studies import table
from twinscale.benchmarks.studies.design import Planned
from twinscale.benchmarks.studies.sizes import Size
from twinscale.common.recipe.file import load


def test_a_table_of_failures_alone_has_the_same_types(tmp_path):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    from pyarrow.parquet import read_schema

    recipe = load("mlp-digits", ["train.steps=10", "train.global_batch=8", "train.precision=bfloat16"])
    run = Planned("jax", recipe, Size(100, 80, 1, 700.0))
    failed = table.row_of(run, 64, tmp_path / "none", None, "x" * 900)
    assert failed["state"] == "failed" and len(failed["reason"]) == table.LONGEST and failed["loss"] is None
    assert (failed["D"], failed["unique_D"], failed["epochs"], failed["bits"]) == (80, 64, 1.25, 16)
    assert failed["C"] == 80 * 700 and failed["C_6ND"] == 6 * 100 * 80 and failed.keys() == table.COLUMNS.keys()
    table.write_table([failed], tmp_path / "r.parquet")
    types = {name: str(kind) for name, kind in zip(*(lambda s: (s.names, s.types))(read_schema(tmp_path / "r.parquet")),
                                                   strict=True)}
    assert {kind for kind in types.values()} == {"string", "int64", "uint64", "double"}
    assert types["loss"] == "double" and types["reason"] == "string"


def test_what_ends_without_a_log_has_no_training_loss(tmp_path):
    assert table.training_loss(tmp_path) is None and not table.on_the_way(
        SimpleNamespace(recipe=load("mlp-digits")), 64, tmp_path)
