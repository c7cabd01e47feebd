"""What a preflight says on a terminal."""

from tests.benchmarks.preflight.test_init import ANSWER, MODULE, fly  # noqa: F401
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.preflight.words import gib, times


def test_sizes_and_ratios_read_well():
    assert [gib(size) for size in (None, 12, 3 * 2**20, 15.75 * 2**30)] == ["–", "12 B", "3 MiB", "15.75 GiB"]
    assert times(2, 3) == "1.50 ×" and times(0, 3) == "–"


def test_the_table_writes_numbers_as_reports_do(fly, capsys):  # noqa: F811
    _, found = fly({"jax": [ANSWER]}, MODULE)
    (row,), said = found["results"], capsys.readouterr().out
    assert f"{sig(100 * row['mfu_ceiling'], 3)} %" in said and f"{sig(row['flops_per_device'] / 1e9, 4)}" in said
