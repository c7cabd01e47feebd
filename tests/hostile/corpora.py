"""Hostile and odd corpora, and what may have happened to what the cache holds of them."""

import io
import json
import os
import pickle
import shutil
import struct
import sys

import numpy as np

from tests.hostile.damage import CONTROL, json_shapes, with_value
from tests.hostile.stage import MARK, ROOT, Case

READ = ("read-data", "text.toml", "data.tokenizer=bytes")
CACHED = (("TWINSCALE_CACHE", "HERE/cache"),)
AGAIN = r"(?i)cache"  # what is said where something broken is built again


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
    needs = ("text.toml", "texts", "lines.jsonl")

    def case(name, source, make=None, codes=(2,), check=None, more=(), environment=()):
        return Case("corpora", name, read(source, *more), make, needs, codes, check=check, environment=environment)

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


def corpora_odd():
    needs = ("text.toml", "texts", "lines.jsonl")

    def case(name, source, make=None, check=None, more=()):
        return Case("corpora", name, read(source, *more), make, needs, (0,), check=check, benign=True)

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

    def marked(here, _):
        for file in (here / "texts").iterdir():
            file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())

    def unmarked(_, out):
        return "the byte order mark is in the tokens" if 239 in json.loads(out)["held"] else None

    def long_line(here, chance):
        (here / "texts" / "99.txt").write_text("".join(chance.choice("abcdefgh") for _ in range(3_000_000)))

    def lines(content):
        return corpus("odd.jsonl", content)

    good = "".join(json.dumps({"text": f"{n} the loss of a step " * 4}) + "\n" for n in range(20))
    yield case("a link to its own folder under **", "text:texts/**/*.txt", loops, documents(24))
    yield case("links that lead into each other under **", "text:texts/**/*.txt", two_loops, documents(24))
    yield case("files of which one is linked", "text:texts/*.txt",
               lambda here, _: (here / "texts" / "zz.txt").symlink_to("00.txt"), documents(24))
    for name in ("with space N.txt", "步N.txt", "N'\".txt", "#N.txt", os.fsdecode(b"h\xffN.txt")):
        yield case(f"files named {ascii(name)}", "text:odd/*.txt", named(name), documents(24))
    yield case("files named with brackets", "text:odd/*].txt", named("a[N].txt"), documents(24))
    yield case("lines in a file named with brackets", "jsonl:odd/a[1].jsonl", corpus("odd/a[1].jsonl", good),
               documents(20))
    yield case("byte order marks", "text:texts/*.txt", marked, unmarked)
    yield case("an empty file among others", "text:texts/*.txt", corpus("texts/98.txt", ""), documents(24))
    yield case("Windows' line ends", "text:texts/*.txt", corpus("texts/98.txt", "a\r\nb\r\n" * 40), documents(25))
    yield case("a NUL in a text", "text:texts/*.txt", corpus("texts/98.txt", "a\x00b " * 40), documents(25))
    yield case("emoji and joined letters", "text:texts/*.txt", corpus("texts/98.txt", "🦉👩‍🚀 é " * 40), documents(25))
    yield case("documents shorter than a row, packed", "jsonl:odd.jsonl",
               lines("".join(json.dumps({"text": f"w{n}"}) + "\n" for n in range(400))), documents(400),
               ("data.cross_documents=true",))
    yield case("lines with blanks between", "jsonl:odd.jsonl", lines(good.replace("\n", "\n\n \n")), documents(20))
    yield case("lines with Windows' ends", "jsonl:odd.jsonl", lines(good.replace("\n", "\r\n")), documents(20))
    yield case("lines without an end", "jsonl:odd.jsonl", lines(good.rstrip()), documents(20))
    yield case("lines with a byte order mark", "jsonl:odd.jsonl", lines("\ufeff" + good), documents(20))
    yield case("lines with other keys", "jsonl:odd.jsonl", lines(good.replace("{", '{"id": 7, "x": null, ')),
               documents(20))
    yield case("another field", "jsonl:odd.jsonl", lines(good.replace('"text"', '"my field"')), documents(20),
               ("data.field=my field",))
    yield Case("corpora", "a line of 3 MB for the pieces of words", ("read-data", "text.toml"), long_line, needs, (0,),
               check=documents(25), benign=True)


# ---- the cache

def warmed(damage):
    """Fills a cache of the case's own, notes the answer, then damages what is there."""
    def make(here, chance):
        environment = {**os.environ, "TWINSCALE_CACHE": str(here / "cache"), "PYTHONPATH": str(ROOT)}
        answer = fresh(environment, here, here / "answer.json")
        if answer:
            raise RuntimeError(answer)
        damage(here / "cache", chance)
    return make


def fresh(environment, here, target):
    """The answer of a healthy reading, by a fork of this process; what went wrong with it, or nothing."""
    process = os.fork()
    if not process:
        try:
            os.environ.update(environment)
            os.chdir(here)
            with target.open("w") as file:
                os.dup2(file.fileno(), 1)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                from tests.hostile import verbs
                code = verbs.main(["read-data", "text.toml" if (here / "text.toml").exists() else "mlp.toml"])
                sys.stdout.flush()
        except BaseException:
            code = 1
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return f"the healthy reading ended with {code}" if code else ""


def as_before(here, out):
    """The answer must be that of the healthy reading."""
    wanted = json.loads((here / "answer.json").read_text())
    return None if json.loads(out) == wanted else "other data than before the damage"


def folder_of(cache, start):
    return next(path for path in cache.iterdir() if path.name.startswith(start))


def flipped(start, name, where=0.5):
    def damage(cache, chance):
        path = folder_of(cache, start) / name
        content = bytearray(path.read_bytes())
        place = int(where * (len(content) - 1))
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
    return damage


def replaced(start, name, change):
    def damage(cache, chance):
        path = folder_of(cache, start) / name
        content = change(path.read_bytes())
        path.unlink()
        path.write_bytes(content)
        sealed(path.parent)
    return damage


def sealed(folder):
    """The seal agrees with the sizes again, as it would after a careful hand."""
    seal = folder / "files.json"
    try:
        said = json.loads(seal.read_text())
    except ValueError:
        return
    if isinstance(said, dict):
        for file in folder.iterdir():
            if file.name in said and isinstance(said[file.name], int):
                said[file.name] = file.stat().st_size
        seal.write_text(json.dumps(said))


def caches():
    text, images = ("text.toml", "texts"), ("mlp.toml",)

    def case(name, damage, needs=text, codes=(0,), says=AGAIN):
        words = ("read-data", needs[0])
        return Case("caches", name, words, warmed(damage), needs, codes, says=says if codes == (0,) else "",
                    check=as_before, writes=("out", "cache"), environment=CACHED)

    for split in ("train", "held_out"):
        for where in (0.2, 0.5, 0.99):
            yield case(f"a bit of the {split} ids flipped, at {where:.0%}",
                       flipped("tokens", f"{split}-00000.npy", where))
        yield case(f"the {split} ids cut short", replaced("tokens", f"{split}-00000.npy", lambda c: c[:-20]))
        yield case(f"the {split} ids zeroed", replaced(
            "tokens", f"{split}-00000.npy", lambda c: c[:128] + bytes(len(c) - 128)))
        yield case(f"the {split} ids reversed", replaced(
            "tokens", f"{split}-00000.npy", lambda c: c[:128] + np.frombuffer(c[128:], "<u2")[::-1].tobytes()))

    def swapped(cache, _):
        folder = folder_of(cache, "tokens")
        a, b = folder / "train-00000.npy", folder / "held_out-00000.npy"
        one, other = a.read_bytes(), b.read_bytes()
        a.write_bytes(other)
        b.write_bytes(one)
        sealed(folder)

    yield case("the splits swapped", swapped)
    yield case("ids that are a pickle", lambda cache, _: (
        folder_of(cache, "tokens") / "train-00000.npy").write_bytes(bomb(cache.parent)))
    yield case("ids of a length that is not there", replaced(
        "tokens", "train-00000.npy", lambda c: c.replace(b"'shape': (", b"'shape': (9")[:len(c)]))
    yield case("ids that are gone", lambda cache, _: (folder_of(cache, "tokens") / "train-00000.npy").unlink())

    def linked(cache, _):
        path = folder_of(cache, "tokens") / "train-00000.npy"
        shutil.move(path, cache / "elsewhere.npy")
        path.symlink_to("/dev/zero")

    def piped(cache, _):
        path = folder_of(cache, "tokens") / "manifest.json"
        path.unlink()
        os.mkfifo(path)

    yield case("ids that are a device", linked)
    yield case("a manifest that is a FIFO", piped)
    for name, content in json_shapes():
        yield case(f"a manifest of {name}", replaced("tokens", "manifest.json", lambda _, content=content: content))
    for place, value in ((("train", "shards", 0, "file"), '"../../../mine/letter.txt"'),
                        (("train", "shards", 0, "file"), '"/etc/passwd"'), (("train", "shards", 0, "file"), "7"),
                        (("train", "shards"), "[]"), (("train", "longest"), "-1"), (("train", "longest"), "1e999"),
                        (("train", "sha256"), '"\\u001b[31m"'), (("train", "documents"), '"many"')):
        yield case(f"a manifest whose {'.'.join(map(str, place))} is {value}", replaced(
            "tokens", "manifest.json", lambda c, place=place, value=value: with_value(c, place, value)))
    for name, content in json_shapes():
        yield case(f"a seal of {name}", lambda cache, _, content=content: (
            folder_of(cache, "tokens") / "files.json").write_bytes(content))
    yield case("a tokenizer with a bit flipped", flipped("bpe", "tokenizer.json", 0.9))
    yield case("a tokenizer cut in half", replaced("bpe", "tokenizer.json", lambda c: c[:len(c) // 2]))
    yield case("a tokenizer of other merges",
               replaced("bpe", "tokenizer.json", lambda c: c.replace(b'"t",', b'"u",', 1)))
    yield case("a tokenizer emptied", replaced("bpe", "tokenizer.json", lambda c: b"{}"))

    for name in ("images", "labels"):
        yield case(f"{name} with a bit flipped", flipped("images", f"{name}.npy"), images)
        yield case(f"{name} cut short", replaced("images", f"{name}.npy", lambda c: c[:-9]), images)
    yield case("labels past the classes", replaced(
        "images", "labels.npy", lambda c: c[:-4] + struct.pack("<i", 99)), images)
    yield case("classes that are a pickle", lambda cache, _: (
        folder_of(cache, "images") / "classes.npy").write_bytes(bomb(cache.parent)), images)
    yield case("classes that are none", replaced("images", "classes.npy", lambda c: c[:-8] + bytes(8)), images)

    def file_in_place(here, _):
        (here / "cache").write_text("a letter")

    yield Case("caches", "a file in the place of the cache", ("read-data", "text.toml"), file_in_place, text,
               (2, 4, 74),
               environment=CACHED, writes=("out",))


def caches_odd():
    def half(here, _):
        (here / "cache" / ".building-x" / "tokens").mkdir(parents=True)
        (here / "cache" / "tokens-0").mkdir()

    yield Case("caches", "what a kill has left of a building", ("read-data", "text.toml"), half, ("text.toml", "texts"),
               (0,), benign=True, environment=CACHED, writes=("cache",))
    yield Case("caches", "as it is", ("read-data", "text.toml"), warmed(lambda *_: None), ("text.toml", "texts"), (0,),
               check=as_before, benign=True, environment=CACHED, writes=("cache",))

    def older(cache, _):
        for folder in cache.iterdir():
            for file in folder.iterdir():
                os.utime(file, (0, 0))

    yield Case("caches", "copied with other times", ("read-data", "text.toml"), warmed(older), ("text.toml", "texts"),
               (0,), check=as_before, benign=True, environment=CACHED, writes=("cache",))
