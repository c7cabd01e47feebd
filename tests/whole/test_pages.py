"""Every kind of page, read as a browser reads it: what is wide scrolls in a box of its own that the keyboard reaches,
what stands in the page can be found from its top, and the command is there to be copied."""

import re
from html.parser import HTMLParser

import pytest

from tests.benchmarks.compression.test_report import fake_compression
from tests.benchmarks.report.test_audit import fake_audit
from tests.benchmarks.report.test_foreign import with_checkpoints as foreign_example
from tests.benchmarks.report.test_law import fake_law, write_fake
from tests.benchmarks.report.test_page import fake_verdict, of_two_runs, rung
from tests.benchmarks.report.test_run import fake_run
from tests.benchmarks.report.test_study import fake_study
from tests.benchmarks.report.test_study import write_fake as write_fake_study
from twinscale.benchmarks.compression.report import write_compression
from twinscale.benchmarks.preflight import report as preflight
from twinscale.benchmarks.report.audit import write_audit
from twinscale.benchmarks.report.foreign import write_differences
from twinscale.benchmarks.report.page import heading, write_report
from twinscale.benchmarks.report.run import write_run

MADE = {"date": "2026-01-02T03:04:05Z", "host": "a-host", "version": "0.1.0", "commit": "0123456789ab and changes",
        "versions": {"python": "3.11.2", "jax": "0.10.2"}}
PLANTED = {"plant": "keras:adam_epsilon", "commands": ["twinscale compare 'a b/recipe.toml' --plant keras:adam_epsilon "
                                                       "--place --out 'a b-again'"],
           "arguments": {"recipe": "recipes/x.toml", "overrides": ["train.steps=20"], "place": True}}


def failing():
    """A verdict with a rung that fails, and its cause."""
    verdict = fake_verdict() | PLANTED | {"agrees": False, "made": MADE, "cause": {
        "operation": "update", "where": "x", "sentence": "step 0, update: update at layer_1.bias"}}
    verdict["rungs"][2] = rung("P3", "optimizer", "one update", 0.51, 1.8e-15, "8 eps", "layer_1.bias",
                               [("float64", 0.51, 1.8e-15, f"layer_{i}.bias") for i in range(9)])
    return verdict


def fake_preflight():
    row = {"mesh": {"data": 4}, "attention": None, "topology": "v5e:2x2", "slices": 1, "chips": 4, "devices": 4,
           "compiles": False, "fits": False,
           "error": "too large", "xla_flags": {}, "hbm_bytes_per_device": 20 << 30, "hbm_capacity_bytes": 16 << 30,
           "headroom_bytes": -(4 << 30), "memory": None, "compile_seconds": 2.0}
    line = {"figure": "collective bytes", "operation": "all-reduce over ici", "jax": 617_472, "keras": 2_729_984,
            "difference": 0.774}
    return {"recipe": {"name": "tiny", "train": {"precision": "float32", "global_batch": 32}}, "hash": "01",
            "results": [row | {"backend": backend} for backend in ("jax", "keras")], "versions": {"jax": "0.10.2"},
            "parity": [{"topology": "v5e:2x2", "slices": 1, "backend": "keras", "differences": [line]}], "chips": {},
            "made": MADE, "assumptions": {"jax": "a", "keras": "b", "roofline": "c"}, "check": None,
            "commands": ["twinscale preflight recipes/x.toml --out x-again"]}


def fake_law_made():
    """A law with what stands on every page."""
    result, points = fake_law()
    return result | {"made": MADE, "commands": ["twinscale fit results.csv --out x-again"]}, points


def fake_study_made():
    """A study with what stands on every page."""
    found, points = fake_study()
    return found | {"made": MADE, "commands": ["twinscale study s.toml --out x-again"]}, points


KINDS = {
    "compare": (write_report, "report", lambda: fake_verdict() | {"made": MADE}),
    "planted": (write_report, "report", failing),
    "compare-runs": (write_report, "report", lambda: of_two_runs(fake_verdict()) | {
        "made": MADE, "sides": {"a": "runs/one", "b": "runs/two"}}),
    "foreign": (write_differences, "report", lambda: foreign_example() | {"made": MADE}),
    "compression": (write_compression, "report", lambda: fake_compression() | {
        "made": MADE, "commands": ["twinscale compare x/recipe.toml --out x-again"]}),
    "audit": (write_audit, "audit", lambda: fake_audit() | {
        "made": MADE, "commands": ["twinscale audit --out build/audit-again"]}),
    "law": (write_fake, "law", fake_law_made),
    "study": (write_fake_study, "study", fake_study_made),
    "preflight": (preflight.write_report, "report", fake_preflight),
    "run": (write_run, "report", lambda: fake_run() | {"made": MADE}),
}


class Page(HTMLParser):
    """What a page holds: headings with their levels, links, ids, and tables with whether a region holds each."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.links, self.ids, self.tables, self.regions = [], [], [], [], [], []
        self.sections, self.buttons = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag == "table":
            self.tables.append(any(o.get("class") == "scroll" and o.get("tabindex") == "0" and o.get("role") == "region"
                                   and o.get("aria-label") for _, o in self.open))
        if found.get("role") == "region":
            self.regions.append(found["aria-label"])
        if tag == "section":
            self.sections.append(found["id"])
        if tag == "button":
            self.buttons.append(found)
        if tag not in ("meta", "br", "link", "path", "use", "rect"):
            self.open.append((tag, found))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass


@pytest.fixture(scope="module", params=KINDS)
def page(request, tmp_path_factory):
    """(its text, what it holds, its Markdown) of each kind."""
    write, name, make = KINDS[request.param]
    out = tmp_path_factory.mktemp("pages")
    write(make(), out)
    text = (out / f"{name}.html").read_text()
    return text, Page(text), (out / f"{name}.md").read_text()


def test_each_table_lies_in_a_named_box_that_scrolls_and_can_be_focused(page):
    _, held, _ = page
    assert held.tables and all(held.tables)
    assert len(held.regions) == len(set(held.regions)) == len(held.tables)


def test_links_lead_to_what_is_there_and_headings_skip_no_level(page):
    _, held, _ = page
    assert len(held.ids) == len(set(held.ids))
    assert held.links and {link.removeprefix("#") for link in held.links} <= set(held.ids)
    assert held.headings[0] == 1 and held.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(held.headings, held.headings[1:], strict=False))


def test_the_contents_name_every_section_in_both_files(page):
    text, held, markdown = page
    contents = text[text.index("<nav"):text.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', contents) == held.sections[1:]  # the first is what they follow
    titles = re.findall(r"^## (.*)", markdown, re.M)
    assert [f"[{title}](#{heading(title)})" in markdown for title in titles] == [True] * len(held.sections[1:])


def test_the_command_can_be_copied_and_who_made_it_is_told(page):
    text, held, markdown = page
    if "commands" in text:
        (button,) = held.buttons
        assert button["data-copy"] in held.ids and button["type"] == "button" and "hidden" in button
    told = "Made 2026-01-02 03:04:05 UTC, on a-host, by twinscale 0.1.0, commit 0123456789ab and changes, Python 3.11.2"
    assert told in text and told in markdown


def test_what_is_printed_is_open_and_not_cut(page):
    styles = page[0][page[0].index("@media print"):]
    assert "details::details-content" in styles and ".scroll { overflow: visible" in styles


def test_the_first_cause_stands_first_with_a_link_to_its_place(tmp_path):
    write_report(failing(), tmp_path)
    text, markdown = ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md"))
    box = text[text.index('id="verdict"'):text.index("<nav")]
    assert "First cause" in box and "update at layer_1.bias" in box and 'href="#cause"' in box
    assert "update at layer_1.bias" in markdown.partition("Contents:")[0]
    assert "2.8e14 × too far" in text and "2.8e14 × too far" in markdown
    without = failing()
    del without["cause"]
    write_report(without, tmp_path)
    text = (tmp_path / "report.html").read_text()
    box = text[text.index('id="verdict"'):text.index("<nav")]
    assert "P3 optimizer: 2.8e14 × too far, at layer_1.bias" in box and 'href="#rung-3"' in box
    write_report(fake_verdict(), tmp_path)
    assert "First" not in (tmp_path / "report.html").read_text().partition("<nav")[0]


def test_rungs_that_were_not_run_have_their_names(tmp_path):
    write_report(fake_verdict(), tmp_path)
    assert "<b>P7</b> outcome" in (tmp_path / "report.html").read_text()
    assert "| P7 outcome |" in (tmp_path / "report.md").read_text()


def test_what_the_backends_differ_by_is_a_ratio_and_no_share(tmp_path):
    preflight.write_report(fake_preflight(), tmp_path)
    for shown in ((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md")):
        assert "4.42 ×" in shown and "77" not in shown.partition("How to read this")[0]
