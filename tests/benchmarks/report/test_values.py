"""Values as a page shows them: shortened, and with nothing in them that a page would obey."""

import json

from twinscale.benchmarks.report.values import PAGE, code, embedded, fence, markdown, prose_html, prose_markdown, short


def test_numbers_are_thinned_to_the_end_and_other_lists_cut():
    rows = [{"name": str(i), "x": list(range(10))} for i in range(10)]
    found = short({"loss": [*range(9), None], "rows": rows, "word": "x" * 99}, 4)
    assert found["loss"] == [0, 3, 6, None] and found["word"] == "x" * 99
    assert [row["name"] for row in found["rows"]] == ["0", "1", "2", "3"] and found["rows"][0]["x"] == [0, 3, 6, 9]


def test_a_verdict_is_shortened_no_more_than_the_page_asks():
    small, large = {"loss": [0.5] * 5000}, {"loss": [1 / 3] * 100_000}
    assert embedded(small) == (small, None)
    found, kept = embedded(large)
    assert len(json.dumps(found)) <= PAGE and kept == 1024 and len(found["loss"]) > kept / 2


def test_no_text_ends_the_span_the_block_or_the_cell_that_it_stands_in():
    assert code("a|b") == r"`a\|b`" and code("a``b\nc") == "``` a``b c ```" and code("") == "–"
    block = fence("name = '````'\n", "toml").splitlines()
    assert block == ["`````toml", "name = '````'", "`````"]
    assert markdown("<b> *x* [y](z) a|b\n# c") == r"\<b\> \*x\* \[y\](z) a\|b # c"


def test_backticks_alone_make_code_of_what_others_wrote():
    said = "`<i>` and <i>, one ` more"
    assert prose_html(said) == "<code>&lt;i&gt;</code> and &lt;i&gt;, one ` more"
    assert prose_markdown(said) == r"`<i>` and \<i\>, one \` more"
