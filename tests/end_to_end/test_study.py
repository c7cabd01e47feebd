"""Real studies: of both backends, and of a cluster as of one process."""

import pandas
import pytest

from twinscale.benchmarks.studies.study import RESULTS, Asked, studied

TEXT = """
recipe = "mlp-digits"
backend = "{}"
[design]
kind = "grid"
sizes = [{{ model.hidden = [8] }}, {{ model.hidden = [32] }}]
tokens = [{}]
"""


def asked(tmp_path, backend, tokens, out, **further):
    (tmp_path / "study.toml").write_text(TEXT.format(backend, tokens))
    return Asked(tmp_path / "study.toml", ("train.global_batch=16",), tmp_path / out, boots=100, **further)


@pytest.mark.slow
def test_both_backends_train_the_same_recipes_to_the_same_law(tmp_path):
    found = studied(asked(tmp_path, "both", "800, 1600, 3200, 6400", "out", jobs=2))
    assert found.counts == {"planned": 16, "finished": 16, "failed": 0}
    assert found.parity.pairs == 8 and found.parity.largest["difference"] < 1e-3
    assert "Law parity" in (tmp_path / "out" / "study.md").read_text()


@pytest.mark.slow
def test_a_study_on_a_local_cluster_gives_the_same_table(tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    tables = []
    for name, on in (("here", None), ("there", "ray")):
        found = studied(asked(tmp_path, "jax", "800, 1600", name, on=on))
        assert found.counts == {"planned": 4, "finished": 4, "failed": 0}
        tables.append(pandas.read_parquet(tmp_path / name / RESULTS).drop(columns="seconds"))
    pandas.testing.assert_frame_equal(*tables, check_exact=True)
    assert tables[0]["loss"].nunique() == 4
