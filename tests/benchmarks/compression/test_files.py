"""Files that models ship as, where nothing can make them."""

from twinscale.benchmarks.compression import files as compression_files
from twinscale.benchmarks.compression.files import add_files


def test_without_tensorflow_each_row_says_what_is_missing_and_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(compression_files, "lacking", lambda modules: "tensorflow")
    monkeypatch.setattr(compression_files, "open_workers", None)
    rows = [{"backend": "jax", "stage": "dense"}, {"backend": "jax", "stage": "1-prune"}]
    add_files(None, tmp_path, rows, None)
    assert [row["files"] for row in rows] == [
        [{"format": "litert-float", "reason": "tensorflow is not installed"}]] * 2
