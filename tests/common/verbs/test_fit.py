"""`twinscale fit` as people call it."""

import json

import pytest

from tests.benchmarks.laws.tables import PLANTED
from twinscale.benchmarks.planning.laws import read_law
from twinscale.common.cli import main


def test_it_leaves_a_law_that_plan_reads_and_a_page(results, tmp_path, capsys):
    out = tmp_path / "law"
    assert main(["fit", str(results), "--boots", "50", "--at", "1e21", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "train" in said.out and "a parameter" in said.out and "twinscale plan --law" in said.err
    found = json.loads((out / "fit.json").read_text())
    law = read_law(str(out / "law.toml"))
    values = {row["name"].lower(): row["value"] for row in found["parameters"]}
    assert all(getattr(law, key) == pytest.approx(value, rel=1e-12) for key, value in values.items())
    assert law.alpha == pytest.approx(PLANTED["chinchilla"][0], abs=0.02)
    page, text = (out / "law.html").read_text(), (out / "law.md").read_text()
    assert page.count("<figure>") == 5 and found["sentence"] in page and found["sentence"] in text


def test_what_is_there_stays_unless_told(results, tmp_path):
    words = ["fit", str(results), "--boots", "0", "--out", str(tmp_path / "law")]
    assert [main(words), main(words), main([*words, "--overwrite"])] == [0, 2, 0]


def test_a_budget_far_away_is_one_line(results, capsys):
    assert main(["fit", str(results), "--boots", "0", "--at", "1e30"]) == 2
    said = capsys.readouterr()
    assert not said.out and len(said.err.splitlines()) == 1 and "--far" in said.err
