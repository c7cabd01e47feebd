"""A fit in words: intervals beside figures, and what is not known said so."""

from tests.benchmarks.laws.tables import planted
from tests.benchmarks.laws.test_fitting import asked, table_of
from twinscale.benchmarks.laws.fitting import fit_table
from twinscale.benchmarks.laws.words import both, objective_words, span, tables


def found():
    columns, y = planted("chinchilla", noise=0.003)
    result = fit_table(table_of(columns, y), asked(budgets=(1e21,))).result
    return result | {"level": 0.9}


def test_tables_hold_what_was_found_and_hide_what_is_not_known():
    result = found()
    result["parameters"][4]["known"] = False
    titles = {title: rows for title, _, rows in tables(result)}
    assert len(titles) == 4
    rows = next(rows for title, rows in titles.items() if title == "Parameters")
    assert [row[0] for row in rows] == ["alpha", "beta", "A", "B", "E"] and rows[4][1] == "not known"
    words = objective_words(result)
    assert "Converged" in words and "delta 0.001" in words and "60 of 60 resamples" in words


def test_figures_stand_with_their_intervals():
    row = {"N": 1.5e9, "loss": 2.34567, "intervals": {"N": [1e9, 2e9], "loss": [2.3, 2.4]}}
    assert both(row, "N") == "1.5e+09 (1e+09 to 2e+09)" and both(row, "loss") == "2.346 (2.3 to 2.4)"
    assert both(row | {"intervals": None}, "N") == "1.5e+09" and span(None) == "–"
