"""Files that are read back: regular ones alone, of bounded size, checked by type; and foreign text, shown safely."""

import json
import os
import socket
from datetime import date
from typing import NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput
from twinscale.common.files.access import (
    check_regular,
    escaped,
    escaped_lines,
    plain,
    quoted,
    read_bytes,
    read_json,
    read_json_lines,
    read_text,
    read_toml,
    shown,
    write_json,
)
from twinscale.common.files.kinds import STRICT, Backend, Count, Number, Sha256, version


class Inner(TypedDict):
    __pydantic_config__ = STRICT

    seconds: Number
    names: NotRequired[list[str]]


class Outer(TypedDict):
    __pydantic_config__ = STRICT

    schema_version: version(1)
    count: Count
    inner: Inner
    backend: NotRequired[Backend]
    sha256: NotRequired[Sha256]


WHOLE = {"schema_version": 1, "count": 3, "inner": {"seconds": 2, "names": ["é"]}}


def refusal(read, *args):
    """The one line that a refusal is."""
    with pytest.raises(BadInput) as caught:
        read(*args)
    assert str(caught.value).isprintable() and caught.value.exit_code == 2
    return str(caught.value)


# ---- what is whole


def test_what_is_whole_is_read_and_later_keys_are_kept(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, WHOLE | {"later": {"any": [1, "x", None]}})
    found = read_json(path, Outer)
    assert found == WHOLE | {"later": {"any": [1, "x", None]}} and type(found) is dict
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_json(path, Outer)["inner"] == {"seconds": 2.0, "names": ["é"]}
    lines = tmp_path / "x.jsonl"
    lines.write_text('{"seconds": 1}\n{"seconds": 2.5}\n{"seco')
    assert read_json_lines(lines, Inner) == [{"seconds": 1.0}, {"seconds": 2.5}]
    lines.write_text("")
    assert read_json_lines(lines, Inner) == []


def test_what_is_written_of_odd_names_is_read_again(tmp_path):
    name = os.fsdecode(b"caf\xe9")  # of bytes that are not UTF-8
    write_json(tmp_path / "x.json", {"path": name, name: 1})
    assert read_json(tmp_path / "x.json", dict) == {"path": "caf\\udce9", "caf\\udce9": 1}
    assert plain({"a": "漢字 \u202e"}) == {"a": "漢字 \u202e"}


def test_a_link_to_a_file_is_a_file_and_a_name_may_be_odd(tmp_path):
    path = tmp_path / "a [b] *?\n漢字.json"
    path.write_text("{}")
    (tmp_path / "link").symlink_to(path)
    assert read_json(path, dict) == read_json(tmp_path / "link", dict) == {}


# ---- what is not


DAMAGE = {  # of JSON, and what is said of it
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "cut": (b'{"schema_version": 1, "co', "is not JSON: EOF"),
    "two": (b"{} {}", "is not JSON: trailing characters"),
    "a list": (b"[]", "expected a table of keys"),
    "a number": (b"1", "expected a table of keys"),
    "deep": (b"[" * 10**5, "is not JSON: recursion limit"),
    "deep in a later key": (b'{"later": ' + b'{"a":' * 10**5, "is not JSON: recursion limit"),
    "a high byte": (b'{"later": "\xff"}', "is not JSON: invalid unicode"),
    "half a character": (b'{"later": "\\ud800"}', "is not JSON: unexpected end of hex escape"),
    "huge integer": (b'{"later": ' + b"9" * 5000 + b"}", "is not JSON: number out of range"),
    "null bytes": (bytes(64), "is not JSON"),
}
WRONG = {  # changes of what is whole, and what is said of them
    "missing": ({"count": ...}, "count: missing"),
    "text": ({"count": "3"}, 'count = "3": expected a whole number'),
    "boolean": ({"count": True}, "count = true: expected a whole number"),
    "fraction": ({"count": 3.0}, "count = 3.0: expected a whole number"),
    "null": ({"count": None}, "count = null: expected a whole number"),
    "negative": ({"count": -1}, "count = -1: expected 0 or more"),
    "huge": ({"count": 10**300}, "count = 1000000000"),
    "a table": ({"count": {}}, "count = a table: expected a whole number"),
    "a list": ({"inner": []}, "inner = a list: expected a table of keys"),
    "inner": ({"inner": {"seconds": True}}, "inner.seconds = true: expected a number"),
    "in a list": ({"inner": {"seconds": 1, "names": ["x", 3]}}, "inner.names[1] = 3: expected text"),
    "not one of": ({"backend": "torch"}, "backend = \"torch\": expected 'keras', 'keras-jax' or 'jax'"),
    "no hash": ({"sha256": "ab"}, 'sha256 = "ab": expected text of the form'),
    "version": ({"schema_version": 2}, "schema_version = 2: another version's file: this one reads schema_version 1"),
    "version true": ({"schema_version": True}, "schema_version = true: expected a whole number"),
    "escapes": ({"count": "\x1b[2J\u202e\n\x7f"}, 'count = "\\u001b[2J\\u202e\\n\\x7f"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_json_is_one_line_with_file_place_and_fix(tmp_path, damage):
    content, words = DAMAGE[damage]
    path = tmp_path / "x.json"
    path.write_bytes(content)
    said = refusal(read_json, path, Outer, "make it again")
    assert said.startswith(f"{path}: {words}") and said.endswith("; make it again") and len(said) < 400
    (tmp_path / "x.jsonl").write_bytes(b'{"schema_version": 1, "count": 1, "inner": {"seconds": 1}}\n'
                                       + content.replace(b"\n", b" ") + b"\n")
    said = refusal(read_json_lines, tmp_path / "x.jsonl", Outer, "take the line out")
    words = words if words.startswith("is ") else f": {words}"
    assert said.startswith(f"{tmp_path}/x.jsonl: line 2{' ' * (words[0] == 'i')}{words}")
    assert said.endswith("; take the line out")


@pytest.mark.parametrize("change", WRONG)
def test_a_value_of_another_kind_is_one_line_with_file_key_value_and_fix(tmp_path, change):
    values, words = WRONG[change]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({key: value for key, value in {**WHOLE, **values}.items() if value is not ...}))
    said = refusal(read_json, path, Outer, "make it again")
    assert said.startswith(f"{path}: {words}") and said.endswith("; make it again") and len(said) < 400


class Priced(TypedDict):
    __pydantic_config__ = STRICT

    day: date
    price: Number


@pytest.mark.parametrize("text, words", [
    ("day = ", "not TOML: "), ("price = 1", "day: missing"),
    ("day = 2026-01-31\nprice = nan", "price = nan: expected a finite number"),
    ("day = 2026-01-31\nprice = true", "price = true: expected a number"), ("a = 1\na = 1", "there twice?"),
    ("day = 2026-01-31T00:00:00\nprice = 1", "day = "), ("price = 0x" + "f" * 5000, "day: missing"),
    ("price = " + "9" * 5000, "an integer of thousands of digits"), ("x = " + "[" * 9999, "nested too deeply"),
    (".".join("a" * 300_000) + " = 1", "nested too deeply"), ("x = {" + ".".join("a" * 9000) + " = 1}", "nested too"),
    ("'\"" * 200_000, "not TOML"), ("#" * (1 << 21), "larger than 1,048,576 bytes")], ids=range(13))
def test_what_is_no_toml_of_the_kind_is_one_line_at_once(tmp_path, text, words):
    path = tmp_path / "x.toml"
    path.write_text(text)
    said = refusal(read_toml, path, Priced)
    assert said.startswith(f"{path}: ") and words in said
    path.write_text("day = 2026-01-31\nprice = 3\nlater = [1]\n")
    assert read_toml(path, Priced) == {"day": date(2026, 1, 31), "price": 3.0, "later": [1]}


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "to-pipe").symlink_to("pipe")
    (tmp_path / "round").symlink_to("round")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for path, words in {"pipe": "a pipe", "to-pipe": "a pipe", "socket": "a socket", "/dev/zero": "a device",
                            ".": "a directory", "none": "No such file", "round": "symbolic links", "x\0": "no name",
                            "n" * 5000: "too long", "none/x": "No such file"}.items():
            for read in (read_bytes, read_text, check_regular, lambda path: read_json(path, dict),
                         lambda path: read_json_lines(path, dict), lambda path: read_toml(path, dict)):
                assert words.rpartition(" ")[2] in refusal(read, path)


def test_no_more_is_read_than_may_be(tmp_path):
    (tmp_path / "x").write_bytes(bytes(11))
    assert "larger than 10 bytes" in refusal(read_bytes, tmp_path / "x", 10)
    assert len(read_bytes(tmp_path / "x", 11)) == len(read_bytes(tmp_path / "x", None)) == 11


# ---- shown


@given(st.text(st.characters(), max_size=50))
def test_foreign_text_is_shown_on_one_line_and_printable_text_as_it_is(text):
    assert shown(text).isprintable() and escaped(text).isprintable() and quoted(text).isprintable()
    assert escaped_lines(text).replace("\n", "").isprintable() and escaped_lines(text).count("\n") == text.count("\n")
    assert shown(text) == text or not text.isprintable()


@pytest.mark.parametrize("text", ["\x1b]0;x\x07", "\u202egnp.exe", "\u2066a\u2069", "\r", "\b", "\x9b", "\u2028",
                                  "\x7f", "\ud800", "\ufeff", "\u200b"])
def test_what_moves_or_hides_text_is_escaped(text):
    assert text not in shown(text) and "\\" in shown(text)


def test_what_is_shown_is_short_whatever_it_is():
    assert len(shown("x" * 10**6)) == 1000 and shown(16**6000) == "an integer of 24001 bits"
    assert quoted("x" * 100, 5) == '"xxxxx"...' and quoted(None) == "null" and quoted([[1]]) == "a list"
