"""What an audit has found is counted by precision, phase and rung."""

from twinscale.benchmarks import audit_result


def row(name, failed, operation="norm", placed=True, **more):
    return {"name": name, "backend": "keras", "operation": operation, "where": "*", "failed": failed, "found": None,
            "signal": max(failed.values(), default=None), "caught": bool(failed), "placed": placed and bool(failed),
            "precision": "float64", "phase": "forward", "error": None, **more}


def test_an_audit_counts_by_precision_and_phase_and_what_one_rung_alone_has_seen():
    found = audit_result.summary([row("one", {"P2": 1e9, "P4": 1e6}), row("two", {"P4": 7.0}, phase="clip"),
                           row("three", {"P2": 3.0}, placed=False, precision="bfloat16"), row("missed", {}),
                           row("same", {}, operation="")])
    assert (found["mutants"], found["caught"], found["placed"], found["neutral"], found["flagged"]) == (4, 3, 2, 1, 0)
    assert found["by"]["precision"] == {"float64": {"mutants": 3, "caught": 2, "placed": 2},
                                        "bfloat16": {"mutants": 1, "caught": 1, "placed": 0}}
    assert found["by"]["phase"]["clip"] == {"mutants": 1, "caught": 1, "placed": 1}
    assert found["rungs"] == {
        "P2": {"caught": 2, "smallest": 3.0, "faintest": "three in keras", "alone": ["three in keras"]},
        "P4": {"caught": 2, "smallest": 7.0, "faintest": "two in keras", "alone": ["two in keras"]}}
    said = "\n".join(audit_result.lines(found | {"seconds": 1.0, "inapplicable": [
        {"name": "x", "backend": "jax", "lacks": ["SwiGLU", "dropout"]}]}))
    assert "P4 has seen 2, the faintest at 7.0 times its bound (two in keras); 1 it alone: two in keras" in said
    assert "by precision: float64 3 (2 caught, 2 placed), bfloat16 1 (1 caught, 0 placed)" in said
    assert "x in jax does not apply: no SwiGLU, no dropout" in said
