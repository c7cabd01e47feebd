"""The report of a compression: its sentences follow the figures, and it is complete, escaped, deterministic and calm
about what is missing."""

import html
import itertools
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.compression.fakes import DENSE, INT8, PRUNED, fake_compression, one_backend, timed
from twinscale.benchmarks.compression.report import front, write_compression
from twinscale.benchmarks.compression.words import FAILURES, TERMS
from twinscale.benchmarks.rungs.outcome import equivalence
from twinscale.common.files.access import plain

SECTIONS = ["verdict", "files", "pareto", "latency", "kept", "ladder", "limits", "guide", "reproduce"]
HOSTILE = "</script><script>alert('x')</script>"


def written(found, out):
    out.mkdir(exist_ok=True)
    write_compression(found, out)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="compression-json">(.*?)</script>', page, re.S)[1])


def plain_text(page):
    """What a reader of the page sees, without its figures."""
    page = re.sub(r"<(script|style|svg).*?</\1>", "", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return written(fake_compression(), tmp_path_factory.mktemp("report"))


# ---- the page

def test_sections_come_in_order_in_both_files(report):
    page, text = report
    assert re.findall(r'<section id="([^"]+)"', page) == SECTIONS
    assert re.findall(r"^## (.*)", text, re.M) == re.findall(r"<h2>(.*?)</h2>", page)


def test_equal_input_gives_equal_bytes_whatever_the_order_of_keys_and_after_a_round_trip(tmp_path, report, drawn_anew):
    def backwards(value):
        if isinstance(value, list):
            return [backwards(v) for v in value]
        return {k: backwards(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    assert written(backwards(fake_compression()), tmp_path) == report
    assert written(json.loads(json.dumps(plain(fake_compression()))), tmp_path) == report


def test_nothing_is_loaded_from_elsewhere_and_the_page_is_small(report):
    page, _ = report
    assert all(target.startswith("#") for target in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"@import|url\((?!#)|<link|<img", page)
    assert len(page.encode()) < 2_000_000 and "prefers-color-scheme: dark" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert embedded(page) == plain(fake_compression())


def test_everything_shown_is_escaped(tmp_path):
    def hostile(value):
        if isinstance(value, dict):
            return {key: hostile(v) for key, v in value.items()}
        if isinstance(value, list):
            return [hostile(v) for v in value]
        return HOSTILE + "|`$x$ " + value if isinstance(value, str) else value

    for found in (fake_compression(), one_backend()):
        found["rows"][-1]["files"].append({"format": "litert-float16", "reason": "no `converter` here"})
        found["rows"][-1]["verified"][0] |= {"kept": False, "zeros_after": 0.1}
        for r in found["rows"][:2]:
            r["backend"], r["stage"] = hostile(r["backend"]), hostile(r["stage"])
        found["rows"][2] = hostile(found["rows"][2])
        for key in found.keys() - {"rows"}:
            found[key] = hostile(found[key])
        page, text = written(found, tmp_path)
        assert page.count("<script") == page.count("</script>") == 2
        assert "alert" in page and embedded(page) == plain(found)
        outside_code = re.sub(r"^(`{3,}).*?^\1$|(?<!\\)(`+)(?!`).*?(?<!`)\2(?!`)", "", text, flags=re.S | re.M)
        assert not re.search(r"(?<!\\)<", outside_code)
        table = [line for line in text.splitlines() if line.startswith("|")]
        head = next(i for i, line in enumerate(table) if line.startswith("| stage | backend"))
        lines = [line for line in table[head:] if len(re.findall(r"(?<!\\)\|", line)) == 19]
        assert len(lines) == 2 + sum(len(r["files"]) for r in found["rows"])


def test_each_figure_has_a_narrow_twin_and_its_words_stand_in_both_files(report):
    page, text = report
    figures = re.findall(r"<figure>(.*?)</figure>", page, re.S)
    assert len(figures) == 4  # Pareto, latency, ladder, quanta
    for figure in figures:
        wide, narrow = (float(w) for w in re.findall(r'<svg viewBox="0 0 ([\d.]+) ', figure))
        assert narrow == 252 < wide
        caption = re.search(r"<figcaption>(.*?)</figcaption>", figure, re.S)[1]
        assert html.unescape(caption).strip() in text
    assert len(re.findall(r'<div class="scroll" [^>]*tabindex="0">\s*<table', page)) == page.count("<table")


def test_there_is_a_line_for_each_backend_stage_and_file(report):
    page, text = report
    for found in (re.findall(r"^\| (\S+) \(272,474 parameters\) \| (\w+) \| (LiteRT \w+)", text, re.M),):
        assert sorted(found) == sorted(
            [(s, b, "LiteRT float") for s, b in itertools.product((DENSE, PRUNED, INT8), ("Keras", "JAX"))]
            + [(INT8, b, "LiteRT int8") for b in ("Keras", "JAX")])
    assert re.findall(r'scope="rowgroup">(\S+) ', page) == [DENSE, PRUNED, INT8]
    shown = plain_text(page)
    assert "Keras LiteRT int8 21 of 23 in 8 bits 0.9640 −0.0080 0.9630 −0.0090 313 kB 3.5 × 102 kB 10 × 20.4 %" in shown
    assert "0.118 p95 0.126" in shown and "batch 32," in shown
    for word in ("3 of 271,000", "99.961 %", "✓ equivalent", "inside ±0.02", "1,000 held-out rows"):
        assert word in shown and word in text


def test_the_guide_explains_every_term_and_every_rung_in_both_files(report):
    for shown in report:
        guide = html.unescape(shown[shown.index("How to read this"):])
        for name in [*FAILURES, *(name for name, _ in TERMS)]:
            assert f"<dt>{name}</dt>" in guide or f"**{name}.**" in guide


# ---- the verdict

def test_two_backends_that_agree_compress_alike(report):
    page, text = report
    assert "The backends <span>compress alike" in page and text.startswith("# ✓ The backends compress alike")
    assert "rungs that hold: 8 of 8" in text and "313 kB, 3.5 times smaller" in text


def test_one_backend_is_told_neutrally(tmp_path):
    page, text = written(one_backend(), tmp_path)
    assert 'class="verdict open"' in page and text.startswith("# Compressed by JAX\n")
    head = page[page.index('id="verdict"'):page.index("</section>")]
    assert "✓" not in head and "✕" not in head and "Keras" not in plain_text(page).partition("How to read this")[0]
    assert "smallest file: JAX 2-quantize LiteRT int8: 313 kB" in text
    assert "its accuracy: 0.9610, 0.013 lower than the dense model's" in text
    assert "batch 1, 1 thread: 0.125 ms" in text and "--backend jax" in text
    assert 'id="ladder"' not in page and "Keras against JAX" not in page


def test_a_rung_that_fails_says_what_this_usually_means_and_an_open_one_is_no_failure(tmp_path):
    found = fake_compression() | {"agrees": False}
    found["rungs"][1] |= {"agrees": False, "worst": 17.0}
    page, text = written(found, tmp_path)
    assert text.startswith("# ✕ The backends do not compress alike") and 'class="verdict no"' in page
    assert f"1-prune masks does not hold. What this usually means: {FAILURES['masks'][:30]}" in text
    found = fake_compression() | {"agrees": False}
    found["rungs"][3] |= {"agrees": False, "worst": 0.03, "open": True}
    page, text = written(found, tmp_path)
    assert text.startswith("# Whether the backends compress alike stays open") and 'class="verdict open"' in page
    for shown in (page, text):
        assert "? open" in shown and "✕ fails" not in shown and "1-prune metric is open" in shown


@pytest.mark.parametrize("differences, answer", [
    ([0.001, 0.002, 0.0], "✓ equivalent inside ±0.02"), ([0.5, 0.51, 0.49], "✕ different outside ±0.02"),
    ([0.0, 0.1, -0.1], "? inconclusive reaches beyond ±0.02"), ([math.nan, 0.1], "✕ different outside ±0.02")])
def test_the_paired_difference_carries_its_interval_and_answer(tmp_path, differences, answer):
    found = fake_compression()
    for r in found["rows"][2:4]:
        r["paired"] = equivalence(differences, 0.02)
    page, text = written(found, tmp_path)
    for shown in (plain_text(page), re.sub(r"[()]", "", text)):
        assert answer in shown and ("not finite" in shown) == any(map(math.isnan, differences))


# ---- what zeros buy

def zeros_said(found, out):
    page, text = written(found, out)
    section = text[text.index("## Latency"):]
    said = section[section.index("**"):section.index("Batch 1")]
    assert html.unescape(said.split("**")[1]) in plain_text(page)
    return said


def test_zeros_that_buy_no_latency_are_called_that_with_the_ratio(tmp_path):
    said = zeros_said(fake_compression(), tmp_path)
    assert "**Zeros buy no latency here; they buy bytes once the file is zipped.**" in said
    assert "Keras 1-prune LiteRT float, with 20.5 % of its values kept, takes 0.409 ms" in said
    assert "the dense one 0.412 ms, 1.01 times as fast (95 %: 1.01 – 1.01)" in said
    assert "zips to 292 kB and the dense one to 1.02 MB, 3.5 times smaller; it is, on disk, no smaller." in said
    assert "1.49 times as long (95 %: 1.49 – 1.49);" in zeros_said(timed(fake_compression(), PRUNED, 1.5), tmp_path)


def test_zeros_that_buy_latency_are_called_that_too(tmp_path):
    said = zeros_said(timed(fake_compression(), PRUNED, 0.5), tmp_path)
    assert "**Zeros buy latency here; they buy bytes" in said and "no latency" not in said
    assert "2.01 times as fast" in said
    said = zeros_said(timed(fake_compression(), PRUNED, 0.5, backends=("jax",)), tmp_path)
    assert "**Zeros buy latency in JAX 1-prune LiteRT float alone; they" in said


def test_zeros_whose_rounds_tell_nothing_are_called_neither(tmp_path):
    """The median alone says twice as fast, and the interval of the rounds holds 1."""
    said = zeros_said(timed(fake_compression(), PRUNED, 0.9, noise=0.3), tmp_path)
    assert "**Whether zeros buy latency here the rounds do not tell; they buy bytes once" in said
    assert "which is faster is not told" in said and "multiplies by a zero" not in said
    said = zeros_said(timed(timed(fake_compression(), PRUNED, 0.5, backends=("keras",)), PRUNED, 0.9,
                            backends=("jax",), noise=0.3), tmp_path)
    assert "**Zeros buy latency in Keras 1-prune LiteRT float; of the others the rounds do not tell;" in said


def test_the_fastest_is_named_where_the_rounds_tell_it(tmp_path):
    assert "Fastest is Keras 2-quantize LiteRT int8" in written(fake_compression(), tmp_path)[1]
    found = timed(fake_compression(), INT8, 1.0, "litert-int8", backends=("jax",), noise=0.4)
    text = written(found, tmp_path)[1]
    assert "The least median has Keras 2-quantize LiteRT int8" in text and "Fastest" not in text
    assert "The rounds do not tell it from JAX 2-quantize LiteRT int8." in text


def test_latencies_without_their_rounds_compare_nothing(tmp_path):
    found = fake_compression()
    for latency in (m for r in found["rows"] for f in r["files"] for m in f["latency"]):
        del latency["rounds_ms"]
    text = written(found, tmp_path)[1]
    assert "Whether zeros buy latency was not measured" in text and "as fast" not in text and "as long" not in text


def test_bytes_are_said_to_be_bought_only_where_they_are(tmp_path):
    found = fake_compression()
    for r in found["rows"]:
        r["files"][0]["zipped_bytes"] = 1_018_400
    said = zeros_said(found, tmp_path)
    assert "they buy bytes" not in said and "not every file is smaller, even zipped" in said and ", no smaller" in said


def test_a_pruned_student_is_held_against_the_student_and_not_against_its_teacher(tmp_path):
    found = fake_compression()
    for r in found["rows"]:
        if r["stage"] != DENSE:
            r["parameters"] = 70_000
    assert "Zeros buy" not in written(found, tmp_path)[1]  # the only other student is as sparse
    for r in found["rows"][2:4]:
        r["stage"], r["kept"] = "1-distil", 1.0
    said = zeros_said(timed(found, DENSE, 100), tmp_path)
    assert "**Zeros buy no latency here" in said and "Keras 2-quantize LiteRT float, with 20.4 %" in said
    assert "and the 1-distil one 0.409 ms, 1.01 times as long" in said


def test_zeros_without_a_latency_are_not_judged(tmp_path):
    found = fake_compression()
    for r in found["rows"]:
        for f in r["files"]:
            del f["latency"]
    page, text = written(found, tmp_path)
    assert "Whether zeros buy latency was not measured" in text and "batch 1, 1 thread" not in text
    assert page.count("<figure>") == 3


# ---- the front

@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=12))
def test_the_front_is_what_no_other_point_beats(points):
    def beaten(one):
        return any(a <= one[0] and b >= one[1] and (a, b) != one for a, b in points)

    assert front(points) == [not beaten(point) for point in points]


@pytest.mark.parametrize("metric, value", [("accuracy", "0.9740"), ("loss", "0.1520"), ("perplexity", "1.164"),
                                           ("bits_per_byte", "0.2193")])
def test_the_front_takes_a_loss_for_better_where_it_is_lower_and_what_follows_from_it(tmp_path, metric, value):
    found = fake_compression()
    for r in found["rows"]:
        loss = r["metrics"]["loss"]
        r["metrics"] |= {"perplexity": math.exp(loss), "bits_per_byte": loss / math.log(2)}
        r["metric_name"], r["metric"] = metric, r["metrics"][metric]  # the files themselves have loss and accuracy
    _, text = written(found, tmp_path)
    said, shown = text[text.index("From small to large"):].partition("By zipped")[0], metric.replace("_", " ")
    assert f"JAX dense LiteRT float (1.10 MB, {shown} {value})" in said and f"## Size against {shown}" in text
    assert f"For {shown}, {'higher' if metric == 'accuracy' else 'lower'} is better." in text


def test_a_file_measured_on_other_rows_is_not_held_against_the_dense_one(tmp_path):
    found = fake_compression()
    for r in found["rows"][4:]:
        r["files"][1]["rows"] = 64
    _, text = written(found, tmp_path)
    cells = [c.strip() for c in next(line for line in text.splitlines() if "LiteRT int8 (21" in line).split("|")]
    assert cells[4:8] == ["0.9640", "−0.0080", "0.9630", ""] and "on 64 or 1,000 held-out rows" in text


# ---- what is missing

def test_kernels_that_lost_zeros_or_centroids_are_listed(tmp_path, report):
    assert "✓ Keras, 2-quantize: all 12 kernels kept" in report[1] and "80.0 %" in report[1]
    found = fake_compression()
    verified = found["rows"][-1]["verified"]
    verified[3] |= {"zeros_after": 0.098, "kept": False}
    verified[4] |= {"values_before": 16, "values_after": 31, "kept": False}
    page, text = written(found, tmp_path)
    assert "✕ JAX, 2-quantize: 2 of 12 kernels lost zeros or centroids." in text and "✓ Keras, 2-quantize" in text
    assert f"| `{verified[3]['name']}` | zeros | 80.0 % → 9.8 % |" in text
    assert f"| `{verified[4]['name']}` | centroids |" in text and "| 16 → 31 |" in text
    assert f"<code>{verified[4]['name']}</code>" in page


def test_files_that_are_absent_say_why(tmp_path):
    found = fake_compression()
    found["rows"][4]["files"][1] = {"format": "litert-int8", "bytes": None, "reason": "`flatbuffers` is not installed"}
    page, text = written(found, tmp_path)
    assert "not written: <code>flatbuffers</code> is not installed" in page
    assert "LiteRT int8, not written: `flatbuffers` is not installed" in text
    assert "was not measured: Keras 2-quantize LiteRT int8" in text


@pytest.mark.parametrize("lost", ["files", "metric", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "metrics", "metric_name", "verified", "kept", "parameters", "bytes", "latency_ms"))])
def test_what_a_row_lacks_breaks_nothing(tmp_path, lost):
    for gone in (lambda r: r.pop(lost), lambda r: r.update({lost: None})):
        for rows in (slice(None), slice(1, 3)):
            found = fake_compression()
            for r in found["rows"][rows]:
                gone(r)
            page, text = written(found, tmp_path)
            shown = plain_text(page).replace("None is", "")
            assert "None" not in shown and "nan" not in shown and "Undefined" not in page + text


@pytest.mark.parametrize("lost", ["latency", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "metrics", "rows", "zipped_bytes", "operators", "bytes", "format"))])
def test_what_a_file_lacks_breaks_nothing(tmp_path, lost):
    for value in (None, "gone", math.nan if lost in ("bytes", "zipped_bytes") else None):
        found = fake_compression()
        for r in found["rows"][1:]:
            for f in r["files"]:
                if value == "gone":
                    del f[lost]
                else:
                    f[lost] = value
        page, text = written(found, tmp_path)
        assert "None" not in plain_text(page).replace("None is", "") and not re.search(r'd="[^"]*(?:nan|inf)', page)
        assert text.startswith("# ✓")


def test_metrics_that_are_not_finite_are_dashes_and_not_points(tmp_path):
    found = fake_compression()
    for r in found["rows"][2:4]:
        r["metric"] = r["metrics"]["accuracy"] = r["files"][0]["metrics"]["accuracy"] = math.nan
        r["files"][0]["latency"][0]["p95_ms"] = math.nan
    page, text = written(found, tmp_path)
    assert "was not measured: Keras 1-prune LiteRT float, JAX 1-prune LiteRT float" in text
    assert ">nan" not in page and embedded(page)["rows"][2]["metric"] is None


def test_a_compression_of_nothing_still_makes_a_page(tmp_path):
    for rows in ([], [{"backend": "jax", "stage": "dense"}]):
        page, text = written({"agrees": None, "sentence": "Nothing ran.", "rows": rows}, tmp_path)
        assert "Compressed by" in page and "Compressed by" in text and "Undefined" not in page + text
    found = fake_compression() | {"stages": [], "rows": fake_compression()["rows"][:2], "rungs": []}
    assert "Zeros buy" not in written(found, tmp_path)[1]
