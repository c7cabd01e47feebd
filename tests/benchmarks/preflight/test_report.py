"""The report of a preflight."""

from tests.benchmarks.preflight.test_init import ANSWER, GATHER, MODULE, OVER, fly  # noqa: F401
from twinscale.benchmarks.preflight import report


def test_the_report_has_the_tables_figures_and_plots(fly, tmp_path):  # noqa: F811
    """Also of what does not compile, whose bar has no parts; equal answers give equal bytes."""
    _, found = fly({"jax": [ANSWER, OVER], "keras": [ANSWER, ANSWER]}, topologies=("v5e-4", "v4-8"))
    for out in ("one", "two"):
        report.write_report(found, tmp_path / out)
    html, text = ((tmp_path / "one" / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert html == (tmp_path / "two" / "report.html").read_text() and "http" not in html.replace("http-equiv", "")
    for said in (html, text):
        assert "does not fit everywhere" in said and "JAX on v4:2x2x1: no, 4.25 GiB too much" in said
        assert "Memory of one chip" in said and "The roofline" in said and "all-reduce x 1, 16 KiB" in said
    assert html.count("<figure>") == 3 and "no figure of its parts" in html


def test_the_report_names_what_is_worse(fly, tmp_path):  # noqa: F811
    golden = tmp_path / "golden.json"
    fly({"jax": [ANSWER]}, write_golden=str(golden))
    _, found = fly({"jax": [ANSWER]}, MODULE.replace("  ROOT %r", f"{GATHER} %r"), check=str(golden))
    report.write_report(found, tmp_path)
    assert "is worse than before" in (tmp_path / "report.md").read_text()
    assert "all-gather over ici 0 -&gt; 1" in (tmp_path / "report.html").read_text()
