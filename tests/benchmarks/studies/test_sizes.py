"""A model's size without its tables, and the sizes around the best of a law."""

import numpy as np
import pytest

from tests.benchmarks.laws.tables import planted
from twinscale.benchmarks.studies.sizes import advice, best_sizes, size_of
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import load


def test_what_is_no_text_has_rows_of_one_and_no_tables():
    size = size_of(load("mlp-digits", ["model.hidden=[8]"]))
    assert size.total == size.without_embeddings == 64 * 8 + 8 + 8 * 10 + 10 and size.row == 1
    text = size_of(load("decoder-stdlib"))
    assert text.row == 128 and text.total - text.without_embeddings == (257 + 128) * 128


def test_the_nearest_sizes_are_nearest_in_ratio():
    law = np.array([0.4, 0.4, 20.0, 20.0, 1.0])  # N* = sqrt(C / 6)
    assert best_sizes(law, [10, 1000, 99, 130, 3], 6e4, 3) == [0, 2, 3]


def test_a_law_is_a_file_of_fit_or_the_fit_of_a_table(tmp_path):
    import pandas

    columns, y = planted("chinchilla", sizes=5)
    pandas.DataFrame({"N": columns["N"], "D": columns["D"], "loss": y}).to_csv(tmp_path / "r.csv")
    assert advice(str(tmp_path / "r.csv"))[:2] == pytest.approx([0.34, 0.30], rel=1e-3)
    (tmp_path / "law.toml").write_text("e = 1.8\na = 400.0\nb = 500.0\nalpha = 0.34\nbeta = 0.3\n")
    assert advice(str(tmp_path / "law.toml")).tolist() == [0.34, 0.3, 400.0, 500.0, 1.8]
    with pytest.raises(BadInput, match="expected a law.toml, or results"):
        advice(str(tmp_path / "law.json"))
