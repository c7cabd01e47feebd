"""The report: complete, self-contained, escaped, deterministic, and calm about what is missing or not finite."""

import html
import json
import math
import re

import pytest

from tests.benchmarks.report.fakes import curve, fake_verdict, rung
from twinscale.benchmarks.report.page import write_report
from twinscale.benchmarks.report.words import TERMS
from twinscale.benchmarks.rung_table import RUNGS

SECTIONS = ["verdict", "compared", "ladder", "convergence", "divergence", "swap", "performance", "held-out", "limits",
            "guide", "reproduce"]
ABSENT = {  # keys of a verdict, and the sections that go with them
    "compared": ["differences", "assumptions"], "ladder": ["rungs", "skipped"], "convergence": ["curves"],
    "divergence": ["tensors", "null_directions", "own_float64"], "swap": ["swap"], "performance": ["performance"],
    "held-out": ["held_out"], "limits": ["limits", "skipped"]}
HOSTILE = "</script><script>alert('x')</script>"


def written(verdict, out):
    out.mkdir(exist_ok=True)
    write_report(verdict, out)
    return (out / "report.html").read_text(), (out / "report.md").read_text()


def embedded(page):
    return json.loads(re.search(r'<script type="application/json" id="verdict-json">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return written(fake_verdict(), tmp_path_factory.mktemp("report"))


def test_equal_input_gives_equal_bytes_whatever_the_order_of_keys(tmp_path, report, drawn_anew):
    def backwards(value):
        return {k: backwards(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    assert written(backwards(fake_verdict()), tmp_path) == report


def test_sections_come_in_order_in_both_files(report):
    page, text = report
    assert re.findall(r'<section id="([^"]+)"', page) == SECTIONS
    assert re.findall(r"^## (.*)", text, re.M) == re.findall(r"<h2>(.*?)</h2>", page)


def test_nothing_is_loaded_from_elsewhere(report):
    page, _ = report
    assert all(target.startswith("#") for target in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert not re.search(r"@import|url\((?!#)|<link|<img", page)
    assert len(page) < 2_000_000
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_a_long_run_stays_small_and_keeps_its_worst_step(tmp_path):
    verdict = fake_verdict()
    verdict["curves"] = {"float64": curve(6e-16, steps=50_000)}
    verdict["curves"]["float64"]["difference"][31_416:31_418] = [0.5, math.nan]
    verdict["performance"]["keras"]["step_ms"] *= 500
    page, text = written(verdict, tmp_path)
    assert len(page.encode()) < 2_000_000
    assert "0.50, at step 31,416" in page and "0.50, at step 31,416" in text
    assert "above the bound" in page[page.index("<figure>", page.index('id="convergence"')):]
    assert "shortened to fit" in page and embedded(page)["recipe"] == verdict["recipe"]
    assert len({len(series) for series in embedded(page)["curves"]["float64"].values() if series}) == 1


def test_everything_shown_is_escaped(tmp_path):
    def hostile(value):
        if isinstance(value, dict):
            return {key: hostile(v) for key, v in value.items()}
        if isinstance(value, list):
            return [hostile(v) for v in value]
        return HOSTILE + "|`$x$ " + value if isinstance(value, str) else value

    verdict = hostile(fake_verdict())
    verdict["versions"]["keras"][HOSTILE] = HOSTILE
    verdict["curves"][HOSTILE] = verdict["curves"]["float32"]
    page, text = written(verdict, tmp_path)
    assert page.count("<script") == page.count("</script>") == 2
    assert "alert" in page and embedded(page) == verdict
    outside_code = re.sub(r"^(`{3,}).*?^\1$|(?<!\\)(`+)(?!`).*?(?<!`)\2(?!`)", "", text, flags=re.S | re.M)
    assert not re.search(r"(?<!\\)<", outside_code)
    header, rule = (line for line in text.splitlines() if line.startswith(("| rung", "| :-- | :-- | :-- | --:")))
    rows = [line for line in text.splitlines() if line.startswith("| \\<") and "agrees" in line]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in [header, rule, *rows]} == {10}


@pytest.mark.parametrize("absent", [[*ABSENT][::2], [*ABSENT][1::2], [*ABSENT]], ids=" ".join)
def test_a_section_whose_keys_are_absent_disappears_from_both_files(tmp_path, absent):
    missing = {key for section in absent for key in ABSENT[section]}
    verdict = {key: value for key, value in fake_verdict().items() if key not in missing}
    for r in verdict.get("rungs", []):
        del r["checks"]
    page, text = written(verdict, tmp_path)
    assert re.findall(r'<section id="([^"]+)"', page) == [section for section in SECTIONS if section not in absent]
    assert re.findall(r"^## (.*)", text, re.M) == re.findall(r"<h2>(.*?)</h2>", page)
    assert embedded(page) == verdict


def test_an_empty_verdict_still_makes_a_page(tmp_path):
    page, text = written({"schema_version": 1, "agrees": False, "sentence": "Nothing ran."}, tmp_path)
    assert "do not agree" in page and "do not agree" in text and "Undefined" not in page + text


def test_one_backend_or_unfinished_figures_are_no_obstacle(tmp_path):
    verdict = fake_verdict()
    verdict["performance"] = {"jax": {"step_ms": [1.0, None], "step_ms_median": 1.0}}
    verdict["held_out"] = {"jax": {"loss": 1.0}}
    verdict["curves"] = {"float32": {"steps": [0, 1], "keras": [1.0, None], "jax": [1.0, 2.0]},
                         "float64": {"steps": []}}
    page, _ = written(verdict, tmp_path)
    assert "None" not in re.sub(r"<script.*?</script>", "", page).replace("None is", "").replace("None was", "")


def test_what_is_not_finite_is_named_and_does_not_break_the_json(tmp_path):
    verdict = fake_verdict() | {"agrees": False}
    verdict["rungs"][3] |= {"worst": math.nan, "agrees": False, "margin": None}
    verdict["rungs"][4] |= {"worst": math.inf, "agrees": False, "margin": 0.0}
    for key in ("keras", "difference"):
        verdict["curves"]["float64"][key][20:30] = [math.nan] * 5 + [math.inf] * 5
    verdict["performance"]["keras"] |= {"step_ms_median": math.nan, "mfu": 1.7}
    verdict["performance"]["jax"]["step_ms"][3] = -math.inf
    verdict["tensors"][0]["ratio"] = math.inf
    page, text = written(verdict, tmp_path)
    assert embedded(page)["rungs"][3]["worst"] is None and "P4 fails: not finite" in text
    assert "Not finite: 10 of 200 steps." in text
    assert "refused: above 100 %" in page
    assert ">nan" not in page and not re.search(r'd="[^"]*(?:nan|inf)', page)


def test_steps_past_the_horizon_are_shown_but_not_judged(tmp_path):
    verdict = fake_verdict()
    verdict["curves"] = {"float32": curve(3e-7, horizon=150)}
    verdict["curves"]["float32"]["difference"][170] = 0.25
    page, text = written(verdict, tmp_path)
    assert "None is above the bound. The horizon is step 150; later steps are shown, not judged" in text
    assert "(they differ by at most 0.25)." in text
    assert "not judged</text>" in page and "above the bound</text>" not in page


def test_all_losses_equal_to_the_last_bit(tmp_path):
    verdict = fake_verdict()
    for key in ("difference", "envelope", "bound"):
        verdict["curves"]["float64"][key] = [0.0] * 200
    assert "200 of 200 steps are equal to the last bit" in written(verdict, tmp_path)[1]


def test_the_embedded_verdict_reads_back_equal(report):
    assert embedded(report[0]) == fake_verdict()


def test_each_figure_has_a_summary_and_the_markdown_has_it_too(report):
    page, text = report
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S)
    assert len(captions) == page.count("<figure>") == 6
    for caption in captions:
        assert html.unescape(caption) in text
    assert "The smallest margin has P2: 1.1 × (" in text


def test_a_first_cause_is_told_and_an_open_rung_is_no_failure(tmp_path):
    verdict = fake_verdict() | {"cause": {"sentence": "step 0, forward: attention mask at block_1.attention.mask"}}
    verdict["rungs"].append(verdict["rungs"][-1] | {"name": "P7", "agrees": False, "conclusive": False})
    for shown in written(verdict, tmp_path):
        assert "First cause" in shown and "attention mask at block_1.attention.mask" in shown
        assert "? open" in shown and "P7 is open" in shown and "P7 fails" not in shown
    failed = fake_verdict() | {"agrees": False}
    assert all("on this directory" in shown for shown in written(failed, tmp_path))
    failed["cause"] = {"operation": None, "sentence": "after 10 updates: 3 of 40 tensors are apart"}
    for shown in written(failed, tmp_path):  # a place, but no operation that was tried by itself
        assert "after 10 updates" in shown and "First cause." not in shown.partition("How to read this")[0]


# ---- guide, checks, swap table

def test_the_guide_explains_every_term_and_every_rung_in_both_files(report):
    for shown in report:
        guide = html.unescape(shown[shown.index("How to read this"):])
        for name in [*RUNGS, *(name for name, _ in TERMS)]:
            assert f"<dt>{name}</dt>" in guide or f"**{name}.**" in guide


def test_the_first_rung_that_fails_says_what_this_usually_means(tmp_path, report):
    verdict = fake_verdict() | {"agrees": False}
    for index in (2, 4):
        verdict["rungs"][index] |= {"agrees": False, "worst": 1.0}
    page, text = (html.unescape(shown) for shown in written(verdict, tmp_path))
    assert page.count("What this usually means") == text.count("What this usually means") == 1
    assert page.count(RUNGS["P3"].failing) == text.count(RUNGS["P3"].failing) == 2  # at the rung, and in the guide
    assert not any("What this usually means" in shown for shown in report)


def test_every_check_above_its_bound_is_marked_by_words_shape_and_colour(tmp_path):
    verdict = fake_verdict() | {"agrees": False}
    verdict["rungs"][1] = rung("P2", "gradient", "one function", 1.0, 1e-15, "twins", "block_7.kernel", [
        ("float64", 10.0**-i if i < 5 else math.nan if i == 5 else 1e-17, 1e-15, f"block_{i}.$x_{i}$")
        for i in range(20)])
    page, text = written(verdict, tmp_path)
    table = page[page.index("<summary>20 checks"):page.index("P3</b>")]
    assert table.count("✕ fails") == 6 and table.count("✓ agrees") == 14
    assert len(re.findall(r"^\| float64 \| ✕", text, re.M)) == 6
    figure = page[page.index("Tensor by tensor"):page.index("<summary>20 checks")]
    assert ">above its bound</text>" in figure and ">within</text>" in figure and ">not finite</text>" in figure
    assert "var(--bad)" in figure and "block_0.$x_0$" in figure
    assert "Above the bound: 6; the worst is block_5" in html.unescape(page)
    assert "<details open><summary>Tensor by tensor" in page  # a failure is open, what agrees is closed


def test_checks_of_a_rung_that_are_all_exact_or_all_alike_still_make_a_figure(tmp_path):
    for worst in (0.0, 1e-15):
        verdict = fake_verdict()
        verdict["rungs"] = [rung("P2", "gradient", "one function", worst, 1e-15, "twins", "x",
                                 [("float64", worst, 1e-15, name) for name in "abc"])]
        assert "All are within; the smallest margin has" in written(verdict, tmp_path)[0]


def test_what_is_past_the_bound_and_the_horizon_stand_in_the_legend(tmp_path):
    verdict = fake_verdict()
    verdict["curves"] = {"float32": curve(3e-7, horizon=150)}
    verdict["curves"]["float32"]["difference"][20] = 0.25
    figure = written(verdict, tmp_path)[0].partition('id="convergence"')[2].partition("</section>")[0]
    for name in ("twin envelope", "bound", "difference", "above the bound", "not judged", "horizon"):
        assert f">{name}</text>" in figure


def test_the_swap_table_marks_what_is_above_its_bound_and_names_leaks(report):
    page, text = report
    table = page[page.index('<section id="swap"'):page.index('<section id="performance"')]
    assert table.count("above the bound") == 1 and "✕ 2.2e-8, above the bound" in table
    assert re.search(r"\| keras \| jax \|.*✕ 2.2e-8 \| `keras.kernel`", text)
    leak = "norm by keras.ops.mean (jnp.mean), 5 places, worst block_0.norm_1 3.4e-8"
    assert leak in " ".join(re.sub(r"<[^>]+>", "", table).split()) and leak in text.replace("`", "")
    assert "<code>jnp.mean</code> computes" in table and "`jnp.mean` computes" in text


def test_backticks_become_code_and_their_content_stays_escaped(tmp_path):
    verdict = fake_verdict() | {"limits": ["one `tick", "`a` and `<b>|*` and <i>"]}
    verdict["skipped"] = [{"name": "P1", "why": "`--operations` measures every operation"}]
    page, text = written(verdict, tmp_path)
    assert page.count("<code>--operations</code> measures") == 2 and text.count("`--operations` measures") == 2
    assert "<code>a</code> and <code>&lt;b&gt;|*</code> and &lt;i&gt;" in page and "one `tick" in page
    assert r"`a` and `<b>\|*` and \<i\>" in text and r"one \`tick" in text


def test_each_side_has_its_distance_to_its_own_float64(report):
    for shown in report:
        assert "Keras 7.7e-7" in shown and "JAX 8.8e-7" in shown


def test_null_directions_are_listed_with_how_they_are_judged(report):
    for shown in report:
        assert "block_3.attention.key.bias" in shown and "Their gradient is mathematically zero" in shown


# ---- other sides

def of_two_runs(value):
    """The fake verdict as one of two JAX runs."""
    keys = {"keras": "a", "jax": "b"}
    if isinstance(value, dict):
        return {keys.get(key, key): of_two_runs(v) for key, v in value.items()}
    if isinstance(value, list):
        return [of_two_runs(v) for v in value]
    return re.sub("keras", "flax", value, flags=re.I) if isinstance(value, str) else value


def test_a_report_of_two_runs_speaks_of_their_labels_alone(tmp_path, report):
    labels = {"a": "runs/one, JAX, 1 device <$1$>", "b": "runs/four, JAX, 4 devices"}
    page, text = written(of_two_runs(fake_verdict()) | {"sides": labels}, tmp_path)
    assert not re.search("keras", page + text, re.I)
    title = html.unescape(re.search("<title>(.*?)</title>", page)[1])
    for label in labels.values():
        assert label in title and label in html.unescape(page) and label.replace("<", r"\<").replace(">", r"\>") in text
        assert f">{html.escape(label, quote=False)}</text>" in page  # in the figures
    assert "The runs <span>agree" in page and text.startswith("# ✓ The runs agree")
    assert "first / second" in page and "Keras / JAX" in report[0] and "The backends <span>agree" in report[0]


def test_the_first_side_has_the_same_look_whatever_it_is_called(tmp_path, report):
    page, _ = written(of_two_runs(fake_verdict()) | {"sides": {"b": "B", "a": "A"}}, tmp_path)
    assert re.search(r">A</text>.*?>B</text>", page, re.S)
    assert page.count("var(--first)") == report[0].count("var(--first)")


def test_two_runs_are_not_sent_to_bisect(tmp_path):
    verdict = of_two_runs(fake_verdict()) | {"agrees": False, "sides": {"a": "one", "b": "four"}}
    page, text = written(verdict, tmp_path)
    assert "on this directory" not in page + text


# ---- what others have written

def test_what_turns_text_round_or_speaks_to_a_terminal_is_escaped_in_both_files(tmp_path):
    odd = "a\u202eb\x1b[2J\u2066c\x9b"
    verdict = fake_verdict() | {"sentence": odd, "limits": [odd], "plant": odd, "commands": [f"compare {odd}"]}
    verdict["rungs"][0] |= {"where": odd}
    verdict["recipe"] |= {"toml": f"name = '{odd}'"}
    verdict["data"] |= {"source": odd}
    for page in written(verdict, tmp_path / "odd"):
        assert not set(page) & set("\u202e\u2066\x1b\x9b") and "u202eb" in page and "x1b[2J" in page.replace("\\[", "[")


def test_of_a_pair_the_first_parting_is_marked_and_each_module_that_parts_by_itself(tmp_path):
    row = {"inputs": 0.0, "outputs": 1e-15, "parts": False}
    inside = {"training": True, "place": "at <two>, whose inputs agree", "cause": "", "coverage": "4 of 4",
              "bound": 1e-13, "others": [{"place": "at four", "cause": "b leaves out the bias."}], "modules": [
                  row | {"a": "one", "b": "1"}, row | {"a": "<two>", "b": "2", "outputs": 0.5, "parts": True},
                  row | {"a": "three", "b": "3", "outputs": None}, row | {"a": "four", "b": "4", "outputs": 1e-3}]}
    for text in written(fake_verdict() | {"inside": {"float64": inside}}, tmp_path):
        text = html.unescape(text[text.index("Inside both programs"):])
        assert text.count("✕ first parting") == text.count("✕ parts by itself") == 1
        places = [text.index(said) for said in ("<two>", "✕ first parting", "three", "four", "✕ parts by itself",
                                                "They part at four. b leaves out the bias.")]
        assert places == sorted(places)


def test_two_programs_of_one_framework_are_called_what_they_are_and_can_be_bisected(tmp_path):
    labels = {"keras": "a (one.py:build)", "jax": "b (two.py:build)"}
    page, text = written(fake_verdict() | {"agrees": False, "sides": labels, "cause": None}, tmp_path)
    assert "The programs do not agree" in text and "The runs" not in text and "twinscale bisect" in text
    assert "<th>Keras" not in page and '<th class="n">JAX' not in page and "b (two.py:build)" in page


def test_counts_among_metrics_are_whole_numbers(tmp_path):
    verdict = fake_verdict()
    for side, count in (("keras", 3.0), ("jax", 4.0)):
        verdict["held_out"][side] |= {"confusion/a/b": count, "f1/a": 1.0}
    _, text = written(verdict, tmp_path)
    assert "| confusion/a/b | 3 | 4 | 1 |" in text and "| f1/a | 1.000000 | 1.000000 | 0 |" in text
