"""A study's page: its runs, laws and parity, escaped, and equal bytes of equal studies."""

from tests.benchmarks.report.test_law import fake_law
from tests.benchmarks.studies.test_words import run
from twinscale.benchmarks.report.study import write_study


def fake_study():
    """(the content of a study.json, the points of its laws)."""
    law, points = fake_law()
    law, points = law | {"held_out": []}, points | {"boots": None}  # two figures less, which pages of laws have
    side = {"value": 1.0, "interval": [0.9, 1.1]}
    rows = [{"figure": "E", "jax": side, "keras": side, "difference": 1e-6, "interval": [-1e-6, 2e-6], "within": True,
             "zero": True, "known": True}]
    runs = [run("jax", run="jax-a"), run("keras", run="keras-a"),
            run("jax", run="jax-b", recipe="b", state="failed", loss=None, reason="not finite at step 7")]
    return {"schema_version": 1, "sentence": "3 runs.", "recipe": "decoder", "backends": ["jax", "keras"], "design": {},
            "counts": {"planned": 3, "finished": 2, "failed": 1}, "flops": 6e7, "seconds": 4.0, "runs": runs,
            "laws": {"jax": law}, "lacking": {"keras": "1 finished runs"}, "level": 0.9,
            "parity": {"pairs": 1, "rows": rows, "agree": True, "sentence": "The laws agree."}, "made": {},
            "commands": ["twinscale study s.toml"]}, {"jax": points}


def write_fake(found, out):
    write_study(found[0], found[1], out)


def test_equal_studies_give_equal_bytes_and_names_are_escaped(tmp_path):
    found, points = fake_study()
    found["recipe"], found["runs"][2]["reason"] = "<script>alert(1)</script>", "<b>no</b>"
    pages = []
    for name in ("one", "two"):  # figures of the second are kept from the first
        (tmp_path / name).mkdir()
        write_fake((found, points), tmp_path / name)
        pages.append([(tmp_path / name / f"study.{kind}").read_text() for kind in ("html", "md")])
    assert pages[0] == pages[1]
    page, text = pages[0]
    assert "<script>alert" not in page and "<b>no" not in page and "&lt;b&gt;no" in page
    assert "| N | D | operations |" in text and "| E | 1 (0.9 to 1.1) |" in text and page.count("<td>E</td>") == 2
    assert page.count("<figure>") == 3 and all(title in text for title in (
        "## Law parity", "## Runs", "## The law of jax", "### Residuals"))


def test_laws_that_lie_apart_and_a_study_without_runs_are_said_in_its_title(tmp_path):
    found, points = fake_study()
    for changes, words in (({"parity": found["parity"] | {"agree": False}}, "its laws lie apart"),
                           ({"counts": {"planned": 3, "finished": 0, "failed": 3}}, "has no finished run")):
        write_fake((found | changes | {"laws": {}}, {}), tmp_path)
        assert words in (tmp_path / "study.md").read_text().splitlines()[0]
