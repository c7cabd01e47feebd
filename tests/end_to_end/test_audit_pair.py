"""The gate on two programs of a user's: what is planted in them is caught and placed, by the recipe alone."""

import json
import shutil
from pathlib import Path

import pytest

from twinscale.benchmarks.audit import audit
from twinscale.benchmarks.matching import match
from twinscale.common.recipe.file import given

PAIR = Path(__file__).parents[2] / "docs" / "pair"
MODULES = {"conv", "norm", "hidden", "logits"}


@pytest.mark.slow
def test_what_is_planted_in_two_programs_of_a_users_is_caught_and_placed_and_what_is_harmless_passes(tmp_path):
    shutil.copytree(PAIR, tmp_path / "pair")
    mended = "model.flax=digits_flax.py:mended"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "pair")
        assert match(given("pair.toml", [mended]))["exit_code"] == 0
        before = {path: path.read_bytes() for path in (tmp_path / "pair").iterdir()}
        own = given("pair.toml", [mended, "train.precision=float64", "keras.jit_compile=false"])
        code = audit(tmp_path / "out", own=own, asked=("pair.toml", mended))
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    rows = {kind: [row for row in found["rows"] if row["name"].partition("@")[0] == kind] for kind in {
        row["name"].partition("@")[0] for row in found["rows"]}}
    assert code == 0, [(row["name"], row["found"]) for row in found["rows"] if row["placed"] != bool(row["operation"])]
    for kind in ("scaled_output", "missing_gradient"):
        assert {row["where"] for row in rows[kind]} == MODULES
    assert {row["where"].partition(".")[0] for row in rows["frozen_tensor"]} == MODULES
    assert len(rows["swapped_tensors"]) == 2 and len(rows["equal_einsum"]) == 4 and rows["reversed_rows"]
    rows.pop("reversed_rows")
    assert all({row["backend"] for row in of} == {"keras", "jax"} for of in rows.values())
    signals = [row["signal"] for row in found["rows"] if row["operation"]]  # null of what is not finite
    assert min(signal for signal in signals if signal is not None) > 1e6 and not found["inapplicable"]
    assert before == {path: path.read_bytes() for path in before}
