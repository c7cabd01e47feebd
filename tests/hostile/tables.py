"""Hostile and odd tables and folders of pictures: `csv:FILE` and `folder:DIR`."""

import os

import numpy as np

from tests.hostile.corpora import corpus, documents
from tests.hostile.damage import CONTROL, png
from tests.hostile.stage import Case

TEXTS = ("read-data", "text.toml", "data.tokenizer=bytes", "data.source=csv:t.csv")
PICTURES = ("read-data", "mlp.toml", "data.source=folder:pics", "train.global_batch=2")
LISTED = ("read-data", "mlp.toml", "data.source=csv:t.csv", "train.global_batch=2")
ROWS = "text,label\n" + "".join(f'"the loss of step {n}, a batch",{n % 2}\n' for n in range(40))


def picture(number, side=8):
    shades = np.random.default_rng(number).integers(0, 256, (side, side), np.uint8)
    return png(side, side, 8, 0, [row.tobytes() for row in shades])


def folders(change=None, names=("cat", "dog")):
    """Two classes of 15 pictures each, and what is done to them."""
    def make(here, chance):
        for number in range(30):
            path = here / "pics" / names[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number))
        (here / "t.csv").write_text("path,label\n" + "".join(
            f"pics/{names[n % 2]}/{n}.png,{names[n % 2]}\n" for n in range(30)))
        if change:
            change(here, chance)
    return make


def tables():
    def table(name, content):
        return Case("corpora", f"a table: {name}", TEXTS, corpus("t.csv", content), ("text.toml",))

    yield table("nothing", b"")
    yield table("a header alone", "text,label\n")
    yield table("no such column", ROWS.replace("text,", "body,", 1))
    yield table("the column twice", ROWS.replace("text,label", "text,text", 1))
    yield table("a column of control characters", ROWS.replace("text,", f"{CONTROL},", 1))
    yield table("a quote that never ends", ROWS + '"the rest\n' * 30)
    yield table("too many fields", ROWS + "a,b,c,d\n")
    yield table("too few fields", ROWS + "a\n")
    yield table("a high byte", ROWS.encode() + b"\xff,1\n")
    yield table("as UTF-16", ROWS.encode("utf-16"))
    yield table("semicolons", ROWS.replace(",", ";"))
    yield table("text after a quote", ROWS + '"a"b,1\n')
    yield table("100,000 columns", ",".join(f"c{n}" for n in range(100_000)) + "\n")
    yield Case("corpora", "a table: a FIFO", TEXTS, lambda here, _: os.mkfifo(here / "t.csv"), ("text.toml",))
    yield Case("corpora", "a table: a device", TEXTS, lambda here, _: (here / "t.csv").symlink_to("/dev/zero"),
               ("text.toml",))

    def pictures(name, change, words=PICTURES):
        return Case("corpora", f"pictures: {name}", words, folders(change), ("mlp.toml",))

    def put(name, content):
        return lambda here, _: (here / name).write_bytes(content)

    yield pictures("a text among them", put("pics/cat/notes.txt", b"a letter"))
    yield pictures("a text named as one", put("pics/cat/0.png", b"a letter"))
    yield pictures("one emptied", put("pics/cat/0.png", b""))
    yield pictures("one cut short", put("pics/cat/0.png", picture(0)[:60]))
    yield pictures("one of another size", put("pics/cat/0.png", picture(0, 9)))
    yield pictures("one of 60,000 x 60,000 pixels", put("pics/cat/0.png", png(60_000, 60_000, 8, 0, [bytes(9)])))
    yield pictures("one in no class", put("pics/0.png", picture(0)))
    yield pictures("an empty class", lambda here, _: (here / "pics" / "owl").mkdir())
    yield pictures("a folder in a class", lambda here, _: (here / "pics" / "cat" / "deep.png").mkdir())
    yield pictures("a FIFO among them", lambda here, _: os.mkfifo(here / "pics" / "cat" / "99.png"))
    yield pictures("a device among them", lambda here, _: (here / "pics" / "cat" / "99.png").symlink_to("/dev/zero"))
    yield pictures("one linked to itself", lambda here, _: (here / "pics" / "cat" / "99.png").symlink_to("99.png"))
    yield pictures("names of control characters", put(f"pics/cat/{CONTROL[:4]}.txt", b"x"))
    for name in ("", "none", "mine/letter.txt", "pics/cat", CONTROL):
        yield pictures(f"a folder {ascii(name)}", None, (*PICTURES[:2], f"data.source=folder:{name}"))
    for name, row in (("a path that is not there", "pics/none.png,cat"), ("no path", ",cat"),
                      ("no label", "pics/cat/0.png,"),
                      ("a path that is a folder", "pics/cat,cat"), ("a path of a device", "/dev/zero,cat"),
                      ("a path of a text", "mine/letter.txt,cat"), ("a path of control characters", f"{CONTROL},cat"),
                      ("a path of 9,000 characters", "p" * 9000 + ",cat")):
        def append(here, _, row=row):
            with (here / "t.csv").open("a") as file:
                file.write(row + "\n")
        yield pictures(f"a table with {name}", append, LISTED)


def tables_odd():
    def table(name, content, count):
        return Case("corpora", f"a table: {name}", TEXTS, corpus("t.csv", content), ("text.toml",), (0,),
                    check=documents(count), benign=True)

    yield table("a byte order mark", "\ufeff" + ROWS, 40)
    yield table("Windows' line ends", ROWS.replace("\n", "\r\n"), 40)
    yield table("lines within quotes", ROWS + '"a\nb\n""c""",1\n', 41)
    yield table("blank lines", ROWS + "\n\n", 40)
    yield table("a NUL", ROWS + "a\x00b,1\n", 41)  # as in any text
    yield table("no line end at its end", ROWS.rstrip(), 40)

    def pictures(name, change=None, words=PICTURES, names=("cat", "dog")):
        return Case("corpora", f"pictures: {name}", words, folders(change, names), ("mlp.toml",), (0,), benign=True)

    yield pictures("as they are")
    yield pictures("listed in a table", None, LISTED)
    yield pictures("classes in other scripts", names=("猫 とら", "собака"))
    yield pictures("what a file manager leaves", lambda here, _: [
        (here / "pics" / "cat" / name).write_bytes(b"x") for name in (".DS_Store", "Thumbs.db")])
    yield pictures("one of 16 bits", lambda here, _: (here / "pics" / "cat" / "0.png").write_bytes(
        png(8, 8, 16, 0, [bytes(range(16))] * 8)))  # which become 8, as in `predict`
    yield pictures("one in colour among gray ones", lambda here, _: (here / "pics" / "cat" / "0.png").write_bytes(
        png(8, 8, 8, 2, [bytes(range(24))] * 8)))
