"""A fitted law's page: its figures and tables, escaped, and equal bytes of equal fits."""

import numpy as np

from tests.benchmarks.laws.tables import planted
from tests.benchmarks.laws.test_fitting import asked, table_of
from twinscale.benchmarks.laws.fitting import disagreement, fit_table
from twinscale.benchmarks.report.law import write_law


def fake_law():
    """(the content of a fit.json, its points)."""
    columns, y = planted("chinchilla", noise=0.003)
    fit = fit_table(table_of(columns, y), asked(budgets=(1e21,)))
    result = fit.result | {"schema_version": 1, "level": 0.9, "commands": ["twinscale fit results.csv"], "made": {},
                           "disagreement": disagreement(fit.result["approaches"])}
    return result, {"columns": columns, "y": y, "residuals": np.linspace(-0.01, 0.01, len(y)), "predicted": y,
                    "public": fit.public, "boots": fit.boots.public}


def write_fake(found, out):
    write_law(found[0], found[1], out)


def paged(found, out):
    out.mkdir(exist_ok=True)
    write_fake(found, out)
    return (out / "law.html").read_text(), (out / "law.md").read_text()


def test_equal_fits_give_equal_bytes_and_names_are_escaped(tmp_path):
    result, points = fake_law()
    result["results"]["path"] = "<script>alert(1)</script>"
    result["warnings"] = ["<b>E</b> is not known"]
    page, text = paged((result, points), tmp_path / "one")
    assert paged((result, points), tmp_path / "two") == (page, text)
    assert "<script>alert" not in page and "<b>E" not in page and "&lt;b&gt;E" in page
    assert page.count("<figure>") == 5 and "is not known" in text
    assert all(title in text for title in ("Loss by size and tokens", "Residuals", "Resampled runs", "Held out"))
