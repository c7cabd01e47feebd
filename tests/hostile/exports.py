"""Hostile and odd exports, and what is given to `predict`: text, arrays, images."""

import hashlib
import io
import json
import os
import struct
import zipfile

import numpy as np

from tests.hostile.corpora import bomb
from tests.hostile.damage import CONTROL, json_shapes, png, png_chunk, safetensors, with_value
from tests.hostile.plans import SPECIALS
from tests.hostile.runs import edit, gone, in_place, missing, value_of
from tests.hostile.stage import Case

WORDS, PICTURES = "export-words", "export-jax"
PROMPT = ("predict", WORDS, "--input", "prompt.txt")
PIXELS = (np.arange(64, dtype=np.uint8) * 4).reshape(8, 8)


def given(name, content):
    def make(here, _):
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return make


def with_prompt(make=None):
    def both(here, chance):
        (here / "prompt.txt").write_text("the loss of a step")
        if make:
            make(here, chance)
    return both


def npy(x):
    buffer = io.BytesIO()
    np.save(buffer, x, allow_pickle=False)
    return buffer.getvalue()


def header(descr, shape, body=b""):
    """A .npy file that says what it likes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def zipped(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return buffer.getvalue()


def exports():
    def case(name, make, codes=(2,), words=PROMPT):
        return Case("exports", name, words, with_prompt(make), (WORDS,), codes)

    file = f"{WORDS}/export.json"
    for name, content in json_shapes():
        yield case(f"export.json of {name}", edit(file, content))
    for name, change in (("emptied", b""), ("cut in half", lambda c: c[:len(c) // 2]),
                         ("zeroed", lambda c: bytes(len(c))),
                         ("with a high byte", lambda c: c.replace(b"words", b"wor\xffs", 1)),
                         ("as UTF-16", lambda c: c.decode().encode("utf-16")),
                         ("followed by garbage", lambda c: c + b"}")):
        yield case(f"export.json {name}", edit(file, change))
    for place, texts in ((("schema_version",), ("2", "null")), (("backend",), ('"torch"', "7", '"\\u001b[31m"')),
                         (("family",), ('"tree"', "7", '"mlp"')),
                         (("classes",), ("0", "-1", "true", '"300"', "1e999", "1" + "0" * 400, "299")),
                         (("example_shape",),
                          ("[]", "[0]", "[-1]", "[true]", "16", '["16"]', "[1000000000000]", "[16, 1]", "[17]")),
                         (("tokenizer",), ("null", "7", "{}")), (("tokenizer", "kind"), ('"words"', "7")),
                         (("tokenizer", "vocabulary"), ("0", "-1", "true", "1000000000000")),
                         (("tokenizer", "sha256"), ('"x"', "7")), (("formats",), ("7", "[]", "[7]", "null")),
                         (("formats", 0, "format"), ('"onnx"', "7", "[]")), (("formats", 0, "sha256"), ('"x"', "7")),
                         (("formats", 0, "path"), ('"../../etc/passwd"', '"/etc/passwd"', '"mine"', '"\\u001b[31m"')),
                         (("formats", 0, "checked"), ("7", '"yes"', "null"))):
        said = ".".join(map(str, place))
        for text in texts:
            yield case(f"export.json whose {said} is {text[:24]}", value_of(file, place, text))
        yield case(f"export.json without {said}", missing(file, place))
    for name in ("export.json", "recipe.toml", "tokenizer.json", "safetensors/model.safetensors"):
        for kind in SPECIALS:
            yield case(f"{name}: {kind}", in_place(f"{WORDS}/{name}", kind))
        if name != "export.json":
            yield case(f"{name} is gone", gone(f"{WORDS}/{name}"))
            yield case(f"{name} with a bit flipped", edit(f"{WORDS}/{name}", lambda c: (
                c[:len(c) // 2] + bytes([c[len(c) // 2] ^ 1]) + c[len(c) // 2 + 1:])))
    yield case("a recipe.toml of another model", edit(f"{WORDS}/recipe.toml", lambda c: c.replace(
        b'activation = "gelu"', b'activation = "gelu_tanh"')))
    yield case("a format that is none", None, words=(*PROMPT, "--format", "onnx"))
    yield case("a format of control characters", None, words=(*PROMPT, "--format", CONTROL))
    yield case("a format that was not exported", None, words=(*PROMPT, "--format", "keras"))
    for name, path in (("not there", "none"), ("a user's", "mine"), ("a file", "mine/letter.txt"),
                       ("a device", "/dev/null"),
                       ("of control characters", CONTROL), ("nothing", "")):
        yield case(f"a directory that is {name}", None, words=("predict", path, "--input", "prompt.txt"))
    yield case("--top of nothing", None, words=(*PROMPT, "--top", "0"))
    yield case("--out that is no safetensors", None, words=(*PROMPT, "--out", "out.txt"))

    for dtype in ("F8_E4M3", "F8_E5M2", "F3", "BF16"):
        def make(here, _, dtype=dtype):
            path = here / WORDS / "safetensors" / "model.safetensors"
            path.write_bytes(safetensors({"transformer.wte.weight": (dtype, (300, 16), None)}))
            agree(here / WORDS)
        yield Case("exports", f"tensors of {dtype}, and export.json agrees", PROMPT, with_prompt(make), (WORDS,),
                   room="jax")


def agree(root):
    """Lets export.json agree with what lies in `safetensors`."""
    lines = [f"{file.relative_to(root / 'safetensors').as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n"
             for file in sorted((root / "safetensors").iterdir())]
    content = (root / "export.json").read_bytes()
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    (root / "export.json").write_bytes(with_value(content, ("formats", 0, "sha256"), f'"{digest}"'))


def fed(name, file, content):
    """A case of the model of text and a file of these bytes, or of what `content(here, chance)` makes."""
    make = content if callable(content) else given(file, content)
    return Case("inputs", name, ("predict", WORDS, "--input", file), make, (WORDS,))


def text_inputs():
    """Files of text and lines, files that are none, and files whose names say nothing of what they hold."""
    for name, content in (("nothing", b""), ("a high byte", b"the \xff loss"),
                          ("as UTF-16", "the loss".encode("utf-16")),
                          ("half a character", "naïve".encode()[:3])):
        yield fed(f"a text of {name}", "p.txt", content)
    for kind, make in (("a FIFO", lambda here, _: os.mkfifo(here / "p.txt")),
                       ("a directory", lambda here, _: (here / "p.txt").mkdir()),
                       ("a device", lambda here, _: (here / "p.txt").symlink_to("/dev/zero")),
                       ("a link to itself", lambda here, _: (here / "p.txt").symlink_to("p.txt")),
                       ("not there", lambda here, _: None)):
        yield fed(f"a text that is {kind}", "p.txt", make)
    for suffix in (".jsonl", ".npy", ".npz", ".safetensors"):
        yield fed(f"a FIFO named *{suffix}", f"p{suffix}", lambda here, _, suffix=suffix: os.mkfifo(
            here / f"p{suffix}"))
        yield fed(f"a device named *{suffix}", f"p{suffix}", lambda here, _, suffix=suffix: (
            here / f"p{suffix}").symlink_to("/dev/zero"))
        yield fed(f"nothing in *{suffix}", f"p{suffix}", b"")
    for name in ("p", "p.pdf", "p.TXT.exe", f"{CONTROL}.txt", "p.png"):
        yield Case("inputs", f"a file named {ascii(name)}", ("predict", WORDS, "--input", name),
                   given(name, "the loss") if "\x1b" not in name else None, (WORDS,))
    for name, line in (("null", b"null"), ("a number", b"7"), ("a list", b"[]"), ("another key", b'{"body": "x"}'),
                       ("null under the key", b'{"text": null}'), ("an empty text", b'{"text": ""}'),
                       ("half a surrogate pair", b'{"text": "\\ud800"}'), ("a high byte", b'{"text": "\xff"}'),
                       ("100,000 brackets", b"[" * 100_000), ("10,000 digits", b'{"text": ' + b"1" * 10_000 + b"}")):
        yield fed(f"a line of {name}", "p.jsonl", b'{"text": "the loss"}\n' + line + b"\n")


def array_inputs():
    """Arrays that are no ids, and files of arrays that hold something else."""
    ids = np.arange(16, dtype=np.int32)[None]
    arrays = {"floats": ids.astype(np.float32), "negative ids": ids - 1, "ids past the vocabulary": ids + 290,
              "no rows": ids[:0], "three axes": ids[None], "truth values": ids > 3, "complex numbers": ids.astype("c8"),
              "rows that are too long": np.zeros((1, 17), np.int32), "rows of nothing": np.zeros((2, 0), np.int32),
              "text": np.array([["the", "loss"]]), "times": ids.astype("M8[s]"), "one number": np.int32(3),
              "huge ids": np.full((1, 4), 2**63, np.uint64)}
    for name, x in arrays.items():
        yield fed(f"an array of {name}", "x.npy", npy(x))
    for name, content in (("a pickle", None), ("of 2^60 rows", header("<i4", (1 << 60, 16))),
                          ("of 10 million rows that are not there", header("<i4", (10_000_000, 16))),
                          ("of a negative shape", header("<i4", (-1, 16))),
                          ("of an unknown type", header("<q9", (1, 16))),
                          ("cut short", npy(ids)[:-9]), ("of a header of nothing", b"\x93NUMPY\x01\x00\x00\x00"),
                          ("of a header that is code",
                           b"\x93NUMPY\x01\x00\x40\x00" + b"__import__('os').system('touch CANARY')".ljust(64)),
                          ("of version 9", b"\x93NUMPY\x09\x00" + npy(ids)[8:]),
                          ("of records", header([("a", "<i4"), ("b", "|O")], (1,), bytes(12)))):
        for suffix in ("npy", "npz"):
            def make(here, _, content=content, suffix=suffix):
                content = bomb(here) if content is None else content
                (here / f"x.{suffix}").write_bytes(zipped({"inputs.npy": content}) if suffix == "npz" else content)
            yield fed(f"an array {name}, in .{suffix}", f"x.{suffix}", make)
    for name, content in (("no array of that name", zipped({"a.npy": npy(ids), "b.npy": npy(ids)})),
                          ("no arrays", zipped({})),
                          ("a name that leads out", zipped({"../../inputs.npy": npy(ids[:0])})),
                          ("a text", zipped({"inputs.npy": b"text"})),
                          ("cut short", zipped({"inputs.npy": npy(ids)})[:-30]),
                          ("names of control characters", zipped({f"{CONTROL}.npy": npy(ids), "b.npy": npy(ids)})),
                          ("a gigabyte of zeros", None)):
        content = content or zipped({"inputs.npy": header("<i4", (16 << 20, 16), bytes(1 << 28))}, compresslevel=1)
        yield fed(f"a .npz of {name}", "x.npz", content)
    for dtype in ("F8_E4M3", "F8_E5M2", "BF16", "F3", "BOOL", "F64"):
        yield fed(f"a safetensors file of {dtype}", "x.safetensors", safetensors({"inputs": (dtype, (1, 16), None)}))
    yield fed("a safetensors file of control characters", "x.safetensors", safetensors(
        {CONTROL: ("I32", (1, 16), None), "b": ("I32", (1, 16), None)}))
    yield fed("a safetensors file cut short", "x.safetensors", safetensors({"inputs": ("I32", (1, 16), None)})[:-4])


def inputs():
    yield from text_inputs()
    yield from array_inputs()


# ---- images

def picture(**changes):
    """An 8 x 8 PNG of PIXELS, or of another kind."""
    return png(8, 8, 8, 0, [row.tobytes() for row in PIXELS], **changes)


def same_answer(here, out):
    """The answer of the plain picture, which pristine inputs gave: noted beside."""
    wanted = here / "answer.txt"
    if not wanted.exists():
        return None
    return None if classes(out) == classes(wanted.read_text()) else "another answer than for the same picture in 8 bits"


def classes(out):
    return [(found["class"], round(found["probability"], 4)) for found in json.loads(out)["classes"]]


def images():
    def case(name, content, file="p.png", codes=(2,), check=None, room="none"):
        make = content if callable(content) else given(file, content)
        return Case("images", name, ("predict", PICTURES, "--input", file, "--format", "safetensors"), make,
                    (PICTURES,),
                    codes, check=check, room=room)

    wide = [b"".join(struct.pack(">H", int(p) * 257) for p in row) for row in PIXELS]

    def beside(content):
        """The picture, and what the plain one is answered with."""
        def make(here, _):
            (here / "p.png").write_bytes(content)
            (here / "answer.txt").write_text(plain_answer(here))
        return make

    yield case("16 bits", beside(png(8, 8, 16, 0, wide)), codes=(0, 2), check=same_answer, room="jax")
    yield case("16 bits and alpha",
               beside(png(8, 8, 16, 4, [b"".join(row[i:i + 2] + b"\xff\xff" for i in range(0, 16, 2))
                                                             for row in wide])), codes=(0, 2), check=same_answer,
                                                             room="jax")
    yield case("16 bits of colour", beside(png(8, 8, 16, 2, [b"".join(row[i:i + 2] * 3 for i in range(0, 16, 2))
                                                             for row in wide])), codes=(0, 2), check=same_answer,
                                                             room="jax")
    for name, content in (("another size", png(9, 9, 8, 0, [bytes(9)] * 9)), ("no pixels", png(0, 0, 8, 0, [])),
                          ("60,000 x 60,000 pixels", png(60_000, 60_000, 8, 0, [bytes(100)])),
                          ("2^31 pixels wide", png(2**31 - 1, 1, 8, 0, [bytes(9)])), ("cut short", picture()[:-30]),
                          ("nothing", b""), ("a bit flipped in its head", bytes([picture()[0] ^ 1]) + picture()[1:]),
                          ("a wrong checksum", picture()[:35] + b"\x00\x01" + picture()[37:]),
                          ("pixels that are no zlib", picture().replace(b"\x78\xda", b"\x00\x00", 1)),
                          ("a JPEG", b"\xff\xd8\xff\xe0" + bytes(99)), ("a GIF", b"GIF89a" + bytes(99)),
                          ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ("text", b"a picture"),
                          ("4 bits of colour", png(8, 8, 4, 2, [bytes(12)] * 8)), ("a colour type that is none", png(
                              8, 8, 8, 5, [bytes(8)] * 8)), ("too few rows", png(8, 8, 8, 0, [bytes(8)] * 3)),
                          ("a text that unpacks to 200 MB",
                           picture(extra=png_chunk(b"zTXt", b"k\x00\x00" + packed(200 << 20)))),
                          ("a colour profile that unpacks to 200 MB", picture(extra=png_chunk(
                              b"iCCP", b"k\x00\x00" + packed(200 << 20))))):
        mixed = "unpacks" in name  # what is no pixel may be left out
        yield case(name, content, codes=(0, 2) if mixed else (2,), room="jax" if mixed else "none")
    for kind, make in (("a FIFO", lambda here, _: os.mkfifo(here / "p.png")),
                       ("a directory", lambda here, _: (here / "p.png").mkdir()),
                       ("a device", lambda here, _: (here / "p.png").symlink_to("/dev/zero"))):
        yield case(kind, make)
    plain = (PIXELS / np.float32(255)).astype(np.float32)[None, ..., None]
    arrays = {"floats of 0 to 255": plain * 255, "negative numbers": plain - 0.5, "a value just above 1": plain * 1.5,
              "NaN": plain * np.nan, "infinity": np.where(plain > 0.5, np.inf, plain).astype(np.float32),
              "truth values": plain > 0.5, "complex numbers": plain.astype("c8"),
              "whole numbers": (plain * 255).astype(np.int64),
              "no rows": plain[:0], "another size": np.zeros((1, 9, 9, 1), np.float32), "five axes": plain[None],
              "three channels": np.repeat(plain, 3, -1), "channels first": np.zeros((1, 1, 8, 8), np.float32),
              "16-bit whole numbers": (plain * 65535).astype(np.uint16), "text": np.array(["x"])}
    for name, x in arrays.items():
        yield case(f"an array of {name}", npy(x), "x.npy")
    for dtype in ("F8_E4M3", "F8_E5M2"):
        yield case(f"a safetensors file of {dtype}", safetensors({"inputs": (dtype, (1, 8, 8, 1), None)}),
                   "x.safetensors")


def packed(size):
    import zlib

    return zlib.compress(bytes(size), 9)


def plain_answer(here):
    """What `predict` says of the picture in 8 bits, by a fork of this process."""
    import sys

    (here / "plain.png").write_bytes(picture())
    target = here / "plain.out"
    process = os.fork()
    if not process:
        code = 1
        try:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
            with target.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.stdout = os.fdopen(1, "w", closefd=False)
                from twinscale.common.export.predict import predict

                predict(here / PICTURES, str(here / "plain.png"), "safetensors")
                sys.stdout.flush()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(process, 0)[1]:
        raise RuntimeError("the plain picture has no answer")
    return next(line for line in target.read_text().splitlines() if line.startswith("{"))


def odd():
    ids = np.arange(16, dtype=np.int32)[None]

    def text(name, file, content, check=None):
        make = content if callable(content) else given(file, content)
        return Case("inputs", name, ("predict", WORDS, "--input", file), make, (WORDS,), (0,), check=check, room="jax",
                    benign=True)

    def image(name, file, content):
        make = content if callable(content) else given(file, content)
        return Case("images", name, ("predict", PICTURES, "--input", file, "--format", "safetensors"), make,
                    (PICTURES,),
                    (0,), check=lambda _, out: None if json.loads(out)["row"] == 0 else "no answer", room="jax",
                    benign=True)

    def tokens(count):
        def check(_, out):
            found = [json.loads(line)["tokens"] for line in out.splitlines()]
            return None if found == count else f"{found} tokens were read, not {count}"
        return check

    rows = "the loss\n"
    yield text("a text with a byte order mark", "p.txt", "\ufeff" + "t", tokens([1]))
    yield text("a text with a NUL", "p.txt", "t\x00t", tokens([3]))
    yield text("a text of emoji", "p.txt", "🦉👩‍🚀")
    yield text("a text longer than the model reads", "p.txt", rows * 99, tokens([16]))
    yield text("a file named with spaces and CJK", "with space 步.txt", rows)
    yield text("a file whose name is no UTF-8", os.fsdecode(b"h\xff.txt"), rows)
    yield text("lines with blanks between", "p.jsonl", '{"text": "t"}\n\n{"text": "t"}\n', tokens([1, 1]))
    yield text("ids of the other byte order", "x.npy", npy(ids.astype(">i4")), tokens([16]))
    yield text("ids in Fortran's order", "x.npy", npy(np.asfortranarray(np.repeat(ids, 2, 0))), tokens([16, 16]))
    yield text("ids of 8 bits", "x.npy", npy(ids.astype(np.uint8)), tokens([16]))
    yield text("one row without its axis", "x.npy", npy(ids[0]), tokens([16]))
    yield text("a .npz of one array", "x.npz", zipped({"anything.npy": npy(ids)}), tokens([16]))
    yield text("a linked file", "p.txt", lambda here, _: (
        (here / "real.txt").write_text("t"), (here / "p.txt").symlink_to("real.txt")), tokens([1]))
    plain = (PIXELS / np.float32(255)).astype(np.float32)[None, ..., None]
    colours = [b"".join(bytes([p, p, p]) for p in row) for row in PIXELS]
    yield image("8 bits", "p.png", picture())
    yield image("8 bits of colour", "p.png", png(8, 8, 8, 2, colours))
    yield image("with a text and a gamma", "p.png", picture(extra=png_chunk(b"gAMA", struct.pack(">I", 45455))
                + png_chunk(b"tEXt", b"Title\x00a digit")))
    yield image("bytes of 0 to 255", "x.npy", npy((plain * 255).astype(np.uint8)))
    yield image("float64", "x.npy", npy(plain.astype(np.float64)))
    yield image("float16", "x.npy", npy(plain.astype(np.float16)))
    yield image("the other byte order", "x.npy", npy(plain.astype(">f4")))
    yield image("one image without its axis", "x.npy", npy(plain[0]))
    yield Case("models", "a StableHLO file alone", ("predict", "export-jax/model.stablehlo", "--input", "x.npy"),
               lambda here, _: ((here / "export-jax/export.json").unlink(), (here / "x.npy").write_bytes(npy(plain))),
               ("export-jax",), (0,), room="jax", benign=True)
    for name in ("savedmodel", "model.keras", "float.tflite"):
        yield Case("models", f"{name} alone", ("predict", f"export-keras/{name}", "--input", "x.npy"),
                   lambda here,
                   _: ((here / "export-keras/export.json").unlink(), (here / "x.npy").write_bytes(npy(plain))),
                   ("export-keras",), (0,), room="keras", benign=True)


