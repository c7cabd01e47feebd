"""A verdict in a notebook."""

import json
from html.parser import HTMLParser
from pathlib import Path

from twinscale.benchmarks.verdict import Verdict

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(**more):
    return Verdict.model_validate(json.loads((EXAMPLES / "verdict.json").read_text()) | more)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.style = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.style += dict(attributes).get("style", "")

    def handle_data(self, data):
        self.words.append(data)


def test_what_is_of_others_is_text_in_a_notebook():
    evil = '<script>alert("1")</script>&amp;\x1b[2J'
    values = json.loads((EXAMPLES / "verdict.json").read_text())
    for rung in values["rungs"]:
        rung |= {"name": evil, "where": evil, "title": evil}
    shown = example(rungs=values["rungs"], sentence=evil, skipped=[{"name": evil, "why": evil}], agrees=False,
                    failed={evil: evil}, cause={"sentence": evil})._repr_html_()
    page = Page(shown)
    assert set(page.tags) == {"div", "p", "strong", "table", "tr", "th", "td"} and "\x1b" not in shown
    assert evil.replace("\x1b", "\\x1b") in page.words
