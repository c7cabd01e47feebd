"""A study's tables, what failed in them."""

from twinscale.benchmarks.studies.words import parity_tables, run_table


def run(backend, **changes):
    return {"recipe": "a", "backend": backend, "N": 1000, "D": 5000, "C": 3e7, "epochs": 1.0, "learning_rate": 1e-3,
            "global_batch": 8, "seed": 0, "state": "finished", "loss": 1.25, "reason": None} | changes


def test_pairs_share_a_row_and_a_failure_says_why():
    found = {"backends": ["jax", "keras"], "runs": [
        run("jax"), run("keras", state="failed", loss=None, reason="no\x1bmemory"), run("jax", recipe="b")]}
    _, columns, rows = run_table(found)
    assert columns[-2:] == ("loss, jax", "loss, keras") and len(rows) == 2
    assert rows[0][-2] == "1.2500" and rows[0][-1].startswith("failed: no") and "\x1b" not in rows[0][-1]
    assert rows[1][-1] == "–"


def test_a_figure_that_lies_apart_is_marked():
    side = {"value": 1.0, "interval": [0.9, 1.1]}
    row = {"figure": "E", "jax": side, "keras": side, "difference": 0.3, "interval": [0.1, 0.4], "within": False,
           "zero": False, "known": True}
    found = {"backends": ["jax", "keras"], "level": 0.9, "parity": {"pairs": 9, "rows": [row]}}
    assert parity_tables(found)[0][2][0][-2:] == ["no", "NO"] and not parity_tables(found | {"parity": None})
    row["known"] = False
    assert parity_tables(found)[0][2][0][0] == "E, not known" and parity_tables(found)[0][2][0][-1] == "no"
