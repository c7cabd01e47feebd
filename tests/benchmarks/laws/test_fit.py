"""`twinscale fit` from a file to a law that `twinscale plan` reads."""

import json

import numpy as np
import pandas
import pytest

from tests.benchmarks.laws.tables import planted
from twinscale.benchmarks.laws.fit import chosen, fit
from twinscale.common.errors import BadInput


def test_json_is_the_file(results, tmp_path, capsys):
    assert fit(str(results), boots=0, out=tmp_path / "law", as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "law" / "fit.json").read_text())


def test_other_laws_have_no_toml(tmp_path):
    columns, _ = planted("batch-size")
    pandas.DataFrame({"D": columns["D"], "global_batch": 0.6 * columns["D"] ** 0.57 * np.exp(
        0.01 * np.random.default_rng(0).standard_normal(len(columns["D"])))}).to_csv(tmp_path / "b.csv", index=False)
    assert fit(str(tmp_path / "b.csv"), law="batch-size", boots=20, out=tmp_path / "law") == 0
    assert not (tmp_path / "law" / "law.toml").exists() and (tmp_path / "law" / "law.html").exists()


@pytest.mark.parametrize("more,words", [
    ({"boots": -1}, "--boots -1"), ({"level": 1.0}, "--level 1"), ({"chance": 1.0}, "--chance 1"),
    ({"columns": ["N"]}, "--column N: such as N=params"), ({"law": "hoffmann"}, "--law hoffmann: is none of")])
def test_what_is_asked_is_checked_before_anything_is_read(tmp_path, more, words):
    with pytest.raises(BadInput, match=words):
        fit(str(tmp_path / "missing.csv"), out=tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_pairs_of_names():
    assert chosen(["N=params", "loss=eval/loss"]) == {"N": "params", "loss": "eval/loss"}
