"""Hostile and odd corpora."""

import io
import json
import os
import pickle

import numpy as np

from tests.hostile.damage import CONTROL
from tests.hostile.stage import MARK, Case

READ = ("read-data", "text.toml", "data.tokenizer=bytes")
NEEDS = ("text.toml", "texts", "lines.jsonl")
LINES = "".join(json.dumps({"text": f"{n} the loss of a step " * 4}) + "\n" for n in range(20))


def corpus(name, content):
    """A file beside the texts, or in their place."""
    def make(here, _):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return make


def read(source, *more):
    return ("read-data", "text.toml", "data.tokenizer=bytes", f"data.source={source}", *more)


def documents(wanted):
    def check(_, out):
        found = json.loads(out)["documents"]
        return None if found == wanted else f"{found} documents were read, not {wanted}"
    return check


class Bomb:
    """What runs a command where it is unpickled."""

    def __init__(self, here):
        self.here = here

    def __reduce__(self):
        return os.system, (f"touch {self.here}/{MARK}",)


def bomb(here):
    """A .npy file that runs a command where it is unpickled."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    return buffer.getvalue() + pickle.dumps(Bomb(here))


def corpora():
    def case(name, source, make=None, codes=(2,), check=None, more=(), environment=()):
        return Case("corpora", name, read(source, *more), make, NEEDS, codes, check=check, environment=environment)

    for name, source in (("matches nothing", "text:none/*.txt"), ("an unknown kind", "book:texts/*.txt"),
                         ("an empty pattern", "text:"), ("the name of no file", "text:texts/99.txt"),
                         ("a device", "text:/dev/zero"), ("a device of lines", "jsonl:/dev/zero"),
                         ("a thousand stars", "text:" + "*/" * 1000 + "*.txt"),
                         ("of a user who is none", "text:~nobody7/x"),
                         ("a broken bracket", "text:texts/[*.txt"),
                         ("a name of control characters", f"text:{CONTROL}")):
        yield case(name, source)
    yield case("a directory", "text:texts", codes=(0, 2), check=documents(24))
    for name, content in (("a high byte", b"abc \xff def " * 40), ("half a character", "naïve".encode()[:3] * 30),
                          ("as UTF-16", ("word " * 90).encode("utf-16")),
                          ("as Latin-1", ("né " * 90).encode("latin-1")),
                          ("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)):
        yield case(f"a file with {name}", "text:texts/*.txt", corpus("texts/50.txt", content))
    yield case("a FIFO", "text:f.txt", lambda here, _: os.mkfifo(here / "f.txt"))
    yield case("a FIFO of lines", "jsonl:f.jsonl", lambda here, _: os.mkfifo(here / "f.jsonl"))
    yield case("a link to itself", "text:f.txt", lambda here, _: (here / "f.txt").symlink_to("f.txt"))
    yield case("a link to a device", "text:f.txt", lambda here, _: (here / "f.txt").symlink_to("/dev/zero"))
    yield case("only empty files", "text:e*.txt", lambda here,
               _: [(here / f"e{n}.txt").write_bytes(b"") for n in range(9)])
    yield case("one document", "text:texts/00.txt")
    yield case("rows that nothing fills", "text:texts/*.txt", more=("data.sequence=100000",))
    yield case("a batch that nothing fills", "text:texts/*.txt", more=("train.global_batch=100000",))
    for held_out in ("0.0000001", "0.9999999"):
        yield case(f"held out: {held_out}", "text:texts/*.txt", more=(f"data.held_out={held_out}",))

    good = json.dumps({"text": "the loss of a step " * 4})
    for name, line in (("null", b"null"), ("a number", b"7"), ("a list", b'["the text"]'), ("text alone", b'"text"'),
                       ("another key", b'{"body": "x"}'), ("a number under the key", b'{"text": 7}'),
                       ("null under the key", b'{"text": null}'), ("a list under the key", b'{"text": ["x"]}'),
                       ("half a surrogate pair", b'{"text": "\\ud800 x"}'), ("a high byte", b'{"text": "\xff"}'),
                       ("no JSON", b"{text: x}"), ("JSON cut short", b'{"text": "the l'), ("NaN alone", b"NaN"),
                       ("100,000 brackets", b"[" * 100_000 + b"]" * 100_000), ("a NUL", b'{"text": "x"}\x00'),
                       ("a number of 10,000 digits", b'{"text": ' + b"1" * 10_000 + b"}"),
                       ("two objects", b'{"text": "x"} {"text": "y"}'),
                       ("keys of control characters", b'{"\\u001b[31m\\u202e": 1}')):
        content = "\n".join([good] * 12).encode() + b"\n" + line + b"\n"
        yield case(f"a line of {name}", "jsonl:bad.jsonl", corpus("bad.jsonl", content))
    yield case("lines in a file with a high byte in its name and no text", "jsonl:*.jsonx",
               lambda here, _: (here / os.fsdecode(b"h\xff\x1b[31m.jsonx")).write_bytes(b"null\n"))

    # TensorFlow Datasets: what names a module, or goes to the network
    for name in ("huggingface:glue", "../../mine", "none", "mine/letter.txt", CONTROL, "kubric:x", "a/b/c/d:9.9.9"):
        yield case(f"tfds:{ascii(name)[1:-1]}", f"tfds:{name}", environment=(("NO_GCE_CHECK", "true"),))
    for name, module in (("a module of the directory's", "evil.Evil"), ("os.system", "os.system"),
                         ("a class of Python's", "subprocess.Popen"), ("a number", 7)):
        yield case(f"tfds: features.json names {name}", "tfds:words", planted(module))


def planted(module):
    """A prepared dataset whose features.json names a module, and the module."""
    def make(here, _):
        folder = here / "tfds" / "words" / "1.0.0"
        folder.mkdir(parents=True)
        (here / "evil.py").write_text(f"open({str(here / MARK)!r}, 'w').write('ran')\nclass Evil: pass\n")
        (folder / "features.json").write_text(json.dumps({
            "pythonClassName": module, "type": module, "content": json.dumps({"args": [f"touch {here / MARK}"]})}))
        (folder / "dataset_info.json").write_text(json.dumps({
            "name": "words", "version": "1.0.0", "fileFormat": "array_record", "moduleName": "evil",
            "splits": [{"name": "train", "shardLengths": ["1"], "numBytes": "10",
                        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}]}))
        (folder / "words-train.array_record-00000-of-00001").write_bytes(bytes(100))
    return make


def as_is(name, source, make=None, check=None, more=()):
    """A case of an odd corpus that is to be taken."""
    return Case("corpora", name, read(source, *more), make, NEEDS, (0,), check=check, benign=True)


def files_odd():
    """What is found: by links and under odd names."""
    def loops(here, _):
        (here / "texts" / "again").symlink_to(".")

    def two_loops(here, _):
        for name in "ab":
            (here / "texts" / name).mkdir()
        (here / "texts" / "a" / "over").symlink_to("../b")
        (here / "texts" / "b" / "back").symlink_to("..")
        (here / "texts" / "a" / "up").symlink_to("..")

    def named(name):
        def make(here, _):
            (here / "odd").mkdir()
            for number, file in enumerate(sorted((here / "texts").iterdir())):
                file.rename(here / "odd" / name.replace("N", f"{number:02}"))
        return make

    yield as_is("a link to its own folder under **", "text:texts/**/*.txt", loops, documents(24))
    yield as_is("links that lead into each other under **", "text:texts/**/*.txt", two_loops, documents(24))
    yield as_is("files of which one is linked", "text:texts/*.txt",
                lambda here, _: (here / "texts" / "zz.txt").symlink_to("00.txt"), documents(24))
    for name in ("with space N.txt", "步N.txt", "N'\".txt", "#N.txt", os.fsdecode(b"h\xffN.txt")):
        yield as_is(f"files named {ascii(name)}", "text:odd/*.txt", named(name), documents(24))
    yield as_is("files named with brackets", "text:odd/*].txt", named("a[N].txt"), documents(24))
    yield as_is("lines in a file named with brackets", "jsonl:odd/a[1].jsonl", corpus("odd/a[1].jsonl", LINES),
                documents(20))


def texts_odd():
    def marked(here, _):
        for file in (here / "texts").iterdir():
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    def unmarked(_, out):
        return "the byte order mark is in the tokens" if 239 in json.loads(out)["held"] else None

    def beside(name, content, wanted=25):
        return as_is(name, "text:texts/*.txt", corpus("texts/98.txt", content), documents(wanted))

    yield as_is("byte order marks", "text:texts/*.txt", marked, unmarked)
    yield beside("an empty file among others", "", 24)
    yield beside("Windows' line ends", "a\r\nb\r\n" * 40)
    yield beside("a NUL in a text", "a\x00b " * 40)
    yield beside("emoji and joined letters", "🦉👩‍🚀 é " * 40)


def lines_odd():
    def lines(name, content, wanted=20, more=()):
        return as_is(name, "jsonl:odd.jsonl", corpus("odd.jsonl", content), documents(wanted), more)

    def long_line(here, chance):
        (here / "texts" / "99.txt").write_text("".join(chance.choice("abcdefgh") for _ in range(3_000_000)))

    yield lines("documents shorter than a row, packed",
                "".join(json.dumps({"text": f"w{n}"}) + "\n" for n in range(400)), 400, ("data.cross_documents=true",))
    yield lines("lines with blanks between", LINES.replace("\n", "\n\n \n"))
    yield lines("lines with Windows' ends", LINES.replace("\n", "\r\n"))
    yield lines("lines without an end", LINES.rstrip())
    yield lines("lines with a byte order mark", "\ufeff" + LINES)
    yield lines("lines with other keys", LINES.replace("{", '{"id": 7, "x": null, '))
    yield lines("another field", LINES.replace('"text"', '"my field"'), more=("data.field=my field",))
    yield Case("corpora", "a line of 3 MB for the pieces of words", ("read-data", "text.toml"), long_line, NEEDS, (0,),
               check=documents(25), benign=True)


def corpora_odd():
    yield from files_odd()
    yield from texts_odd()
    yield from lines_odd()
