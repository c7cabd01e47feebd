"""Three columns as they are trained: the Keras program on TensorFlow and on JAX, and Flax, in float64, to the last
rung; and two of them, where an error is planted in the one program."""

import json
import re

import pytest

from twinscale.common import cli

TINY = ["compare", "mlp-digits", "model.hidden=[8]", "train.steps=4", "train.global_batch=8", "schedule.warmup=2",
        "train.eval_every=0", "train.precision=float64"]
PAIRS = ["keras+keras-jax", "keras+jax", "keras-jax+jax"]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """The directory of three columns that were compared, and the exit code."""
    out = tmp_path_factory.mktemp("columns") / "out"
    return out, cli.main([*TINY, "--columns", "keras,keras-jax,jax", "--out", str(out)])


def test_three_columns_agree_within_rounding_and_each_pair_has_its_own_verdict(three):
    out, code = three
    found = json.loads((out / "columns.json").read_text())
    assert code == 0 and found["agrees"] and found["rung"]["blame"] == "none", found["sentence"]
    assert [pair["directory"] for pair in found["pairs"]] == [f"pairs/{pair}" for pair in PAIRS]
    for pair in found["pairs"]:
        assert [rung["name"] for rung in pair["rungs"]] == ["P0", "P1", "P2", "P3", "P4"]
        assert pair["losses"]["float64"]["steps"] == 4 and pair["losses"]["float64"]["relative"] < 1e-12
        verdict = json.loads((out / pair["directory"] / "verdict.json").read_text())
        assert verdict["sides"] == dict(zip(("keras", "jax"), (found["columns"][name] for name in pair["columns"]),
                                            strict=True))
        assert (out / pair["directory"] / "report.html").is_file()


def test_all_that_a_verdict_says_of_a_pair_names_columns_and_no_side_by_its_key(three):
    out, _ = three
    for pair in PAIRS:
        verdict = json.loads((out / "pairs" / pair / "verdict.json").read_text())
        said = [verdict["sentence"], *verdict["limits"], *(one[key] for rung in verdict["rungs"] for key in (
            "where", "bound_from") for one in (rung, *rung["checks"])), *(
            check["what"] for rung in verdict["rungs"] for check in rung["checks"])]
        assert not [text for text in said if re.search(r"\b(keras|jax)\b", text)]
        assert all(any(title in text for text in said) for title in verdict["sides"].values())


def test_runs_of_keras_on_jax_are_of_that_backend_and_of_the_key_of_their_side(three):
    out, _ = three
    for pair, run in (("keras+keras-jax", "jax"), ("keras-jax+jax", "keras")):
        info = json.loads((out / "pairs" / pair / "runs" / f"{run}-float64" / "run.json").read_text())
        assert info["backend"] == "keras-jax" and info["versions"]["jax"]


@pytest.mark.slow
def test_an_error_in_the_program_of_one_column_is_caught_and_named_by_its_title(tmp_path, capfd):
    words = ["--columns", "jax,keras-jax", "--plant", "keras:late_schedule", "--place", "--out", str(tmp_path / "out")]
    assert cli.main([*TINY, *words]) == 1
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert verdict["sentence"].startswith("Keras on JAX and Flax on JAX do not agree")
    assert "Keras on JAX" in verdict["cause"]["sentence"] or verdict["cause"]["operation"] == "schedule"
    said = capfd.readouterr().err
    assert "keras-jax  float64: the first step" in said and "\nkeras  " not in said
