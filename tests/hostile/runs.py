"""Hostile and odd run directories, states in neither backend's format, and checkpoints."""

import hashlib
import json
import os
import shutil

from tests.hostile.damage import CONTROL, json_shapes, safetensors, safetensors_damaged, with_value
from tests.hostile.plans import SPECIALS, special
from tests.hostile.pristine import MLP
from tests.hostile.stage import Case

SIDES = ("compare-runs", "jax", "keras", "--out", "out")
BOTH = ("jax", "keras")


def edit(name, change):
    """Changes a file's content in place, or where `change` is bytes writes those."""
    def make(here, _):
        path = here / name
        path.write_bytes(change if isinstance(change, bytes) else change(path.read_bytes()))
    return make


def in_place(name, kind):
    """Something that is no file in a file's place."""
    def make(here, chance):
        path = here / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        special(name, kind)(here, chance)
    return make


def gone(name):
    def make(here, _):
        path = here / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return make


def value_of(name, place, text):
    return edit(name, lambda content: with_value(content, place, text))


def missing(name, place):
    def change(content):
        value = json.loads(content)
        parent = value
        for step in place[:-1]:
            parent = parent[step]
        del parent[place[-1]]
        return json.dumps(value).encode()
    return edit(name, change)


WRONG = {int: ("null", "true", '"7"', "-1"), str: ("null", "7", "[]"), list: ("null", "7", '"text"', "{}"),
         dict: ("null", "7", '"text"', "[]")}
RUN = {"schema_version": int, "backend": str, "recipe_hash": str, "state": str, "starts": int, "devices": list,
       "final": dict, "performance": dict, "versions": dict, "data": dict}


def pair(name, make, codes=(2,), needs=BOTH, words=SIDES):
    """A case of two runs, the first of which something was done to."""
    return Case("run directories", name, words, make, needs, codes)


def run_json():
    for name, content in json_shapes():
        yield pair(f"run.json of {name}", edit("jax/run.json", content))
    for name, change in (("emptied", b""), ("cut in half", lambda c: c[:len(c) // 2]),
                         ("zeroed", lambda c: bytes(len(c))),
                         ("with a high byte", lambda c: c.replace(b"tiny", b"ti\xffy", 1)),
                         ("with a NUL", lambda c: c[:99] + b"\x00" + c[99:]),
                         ("followed by garbage", lambda c: c + b"}")):
        yield pair(f"run.json {name}", edit("jax/run.json", change))
        yield pair(f"export of a run.json {name}", edit("jax/run.json", change), needs=("jax",),
                   words=("export", "jax", "--to", "out"))
    for key, kind in RUN.items():
        # A run that was killed after its last checkpoint, and then gone on with, has measured nothing.
        yield pair(f"run.json without {key}", missing("jax/run.json", (key,)), (0, 2) if key == "performance" else (2,))
        for text in WRONG[kind]:
            if (key, text) != ("final", "null"):
                yield pair(f"run.json whose {key} is {text}", value_of("jax/run.json", (key,), text))
    for place, text in ((("schema_version",), "2"), (("state",), '"running"'), (("state",), '"\\u001b[31m"'),
                        (("backend",), '"torch"'), (("backend",), '"\\u001b[31m\\u202e"'), (("devices",), "[7]"),
                        (("devices",), "[]"), (("trace",), "null"), (("trace",), '"whole"'), (("trace",), "7"),
                        (("starts",), "1" + "0" * 400)):
        yield pair(f"run.json whose {place[0]} is {text[:20]}", value_of("jax/run.json", place, text))


def run_json_of_verbs():
    """What is no run.json, before each verb that goes on from a run."""
    for verb in (("convert", "jax", "--to", "out"), ("export", "jax", "--to", "out"), ("report", "jax", "--out", "out"),
                 ("train", "mlp.toml", "--backend", "jax", "--run", "jax"),
                 ("compress", "jax", "--recipe", "mlp.toml", "--backend", "jax", "--out", "out")):
        for name, make in (("a list", edit("jax/run.json", b"[]")), ("a FIFO", in_place("jax/run.json", "a FIFO")),
                           ("a directory", in_place("jax/run.json", "a directory")),
                           ("a device", in_place("jax/run.json", "a link to /dev/zero")),
                           ("of control characters", value_of("jax/run.json", ("backend",), '"\\u001b[31m"')),
                           ("nested deep", edit("jax/run.json", b"[" * 100_000))):
            yield pair(f"{verb[0]}: run.json is {name}", make, needs=("jax", "mlp.toml"), words=verb)


def metrics():
    def line(text):
        def change(content):
            lines = content.split(b"\n")
            lines[1] = text
            return b"\n".join(lines)
        return edit("jax/metrics.jsonl", change)

    for name, text in (("a high byte", b'{"step": 1, "train/loss": 2.\xff}'), ("a NUL", b"\x00"), ("a list", b"[]"),
                       ("a number", b"7"), ("null", b"null"), ("no step", b'{"train/loss": 2.5}'),
                       ("a step of text", b'{"step": "1", "train/loss": 2.5}'),
                       ("a step of half", b'{"step": 1.5, "train/loss": 2.5}'),
                       ("a negative step", b'{"step": -1, "train/loss": 2.5}'),
                       ("a step that is true", b'{"step": true, "train/loss": 2.5}'),
                       ("a step of 400 digits", b'{"step": 1' + b"0" * 400 + b', "train/loss": 2.5}'),
                       ("a loss of text", b'{"step": 1, "train/loss": "2.5"}'),
                       ("a loss that is true", b'{"step": 1, "train/loss": true}'),
                       ("an infinite loss", b'{"step": 1, "train/loss": 1e999}'),
                       ("a loss of NaN", b'{"step": 1, "train/loss": NaN}'),
                       ("a loss that is null", b'{"step": 1, "train/loss": null}'),
                       ("100,000 brackets", b"[" * 100_000),
                       ("a loss of a list", b'{"step": 1, "train/loss": [2.5]}'),
                       ("JSON cut short", b'{"step": 1, "tr')):
        yield pair(f"metrics.jsonl with a line of {name}", line(text))
    yield pair("metrics.jsonl emptied", edit("jax/metrics.jsonl", b""))
    yield pair("metrics.jsonl gone", gone("jax/metrics.jsonl"))
    yield pair("metrics.jsonl zeroed", edit("jax/metrics.jsonl", lambda c: bytes(len(c)) + b"\n"))


def files_of_a_run():
    """Its recipe, and in each file's place what is no file, or nothing."""
    for name, content in (("emptied", b""), ("a picture", b"\x89PNG\xff"), ("an unknown key", MLP.encode() + b"[x]\n"),
                          ("of control characters", b"\x1b[31m"), ("100,000 brackets", b"x = " + b"[" * 100_000)):
        yield pair(f"recipe.toml {name}", edit("jax/recipe.toml", content))
    for name in ("run.json", "metrics.jsonl", "recipe.toml", "trace/contract.json", "trace/batches.json",
                 "trace/final.safetensors", "trace/step_1.safetensors", "trace/twin/run.json"):
        for kind in SPECIALS:
            yield pair(f"{name}: {kind}", in_place(f"jax/{name}", kind))
    for name in ("trace/contract.json", "trace/batches.json", "trace/final.safetensors"):
        yield pair(f"{name} is gone", gone(f"jax/{name}"))


def traces():
    """What a trace says of the run, and its states."""
    for name in ("contract", "batches"):
        for what, content in json_shapes():
            wanted = name == "batches" and what == "only a list"
            yield pair(f"{name}.json of {what}", edit(f"jax/trace/{name}.json", content),
                       (2,) if not wanted else (0, 1, 2))
    yield pair("contract.json of numbers", edit("jax/trace/contract.json", b'{"recipe": 7, "data": []}'))
    yield pair("batches.json of numbers", edit("jax/trace/batches.json", b"[1, 2, 3, 4]"))

    original = safetensors({"weights/dense_0.kernel": ("F32", (19,), None)})
    for name, content in safetensors_damaged(original):
        codes = (1, 2) if name in ("a name with control characters", "no tensors") else (2,)  # 1: that they differ
        yield pair(f"a traced state: {name}", edit("jax/trace/final.safetensors", content), codes)
    for dtype in ("F8_E4M3", "F8_E5M2", "BF16", "I64", "BOOL"):
        yield pair(f"a traced state of {dtype}", edit("jax/trace/final.safetensors", safetensors(
            {"weights/dense_0.kernel": (dtype, (19,), None)})), (2,) if dtype.startswith("F8") else (1, 2))
    yield pair("a traced state of another shape", edit("jax/trace/final.safetensors", safetensors(
        {"weights/dense_0.kernel": ("F64", (3,), None)})), (1, 2))

    def not_finite(content):
        import numpy as np
        from safetensors import numpy as library
        found = library.load(content)
        return library.save({key: np.full_like(x, np.nan) for key, x in found.items()})

    yield pair("a traced state of NaN alone", edit("jax/trace/final.safetensors", not_finite), (1, 2))
    yield pair("a traced state named as no step", lambda here, _: shutil.copy(
        here / "jax/trace/step_1.safetensors", here / "jax/trace/step_one.safetensors"), (0, 2))


def runs():
    for part in (run_json, run_json_of_verbs, metrics, files_of_a_run, traces):
        yield from part()
    for name, path in (("a file", "mine/letter.txt"), ("not there", "none"), ("of something else", "mine"),
                       ("of control characters", CONTROL), ("a device", "/dev/null"), ("nothing", "")):
        yield Case("run directories", f"a directory that is {name}", ("compare-runs", path, "keras", "--out", "out"),
                   needs=("keras",))
        yield Case("run directories", f"--from what is {name}", (
            "train", "mlp.toml", "--backend", "jax", "--run", "out", "--from", path), needs=("mlp.toml",))


def runs_odd():
    def case(name, make, needs=BOTH, words=SIDES):
        return Case("run directories", name, words, make, needs, (0,), benign=True)

    yield case("as they are", None)
    yield case("a last line that was cut short", edit("jax/metrics.jsonl", lambda c: c + b'{"step": 4, "tr'))
    yield case("keys of a later version", edit("jax/run.json", lambda c: c.replace(b"{", b'{"later": {"a": [1]}, ', 1)))
    yield case("50,000 keys of a later version", edit("jax/run.json", lambda c: c.replace(
        b"{", b"{" + b"".join(b'"k%d": 1, ' % n for n in range(50_000)), 1)))
    yield case("run.json on one line", edit("jax/run.json", lambda c: json.dumps(json.loads(c)).encode()))
    yield case("a byte order mark in run.json", edit("jax/run.json", lambda c: b"\xef\xbb\xbf" + c))
    yield case("other files beside", edit("jax/notes \u6b65.txt", b"mine"))
    for name in ("with space", "步骤", "[a]*?", os.fsdecode(b"h\xff"), "a'b\"c", "#$(x)"):
        yield case(f"a directory named {ascii(name)}", lambda here, _, name=name: (here / "jax").rename(here / name),
                   words=("compare-runs", f"./{name}", "keras", "--out", "out"))
    yield case("a path with ..", None, words=("compare-runs", "mine/../jax", "keras", "--out", "mine/../out"))
    yield case("a directory that is linked", lambda here, _: (here / "link").symlink_to("jax"),
               words=("compare-runs", "link", "keras", "--out", "out"))


# ---- states

def resealed(name, change):
    """Changes state.safetensors, and lets index.json agree with it."""
    def make(here, _):
        path = here / name / "state.safetensors"
        path.write_bytes(change if isinstance(change, bytes) else change(path.read_bytes()))
        index = json.loads((here / name / "index.json").read_text())
        index["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (here / name / "index.json").write_text(json.dumps(index))
    return make


def states():
    words = ("train", "mlp.toml", "--backend", "jax", "--run", "out", "--from", "state")

    def case(name, make):
        return Case("checkpoints", f"a state: {name}", words, make, ("state", "mlp.toml"), room="jax")

    for name, content in json_shapes():
        yield case(f"index.json of {name}", edit("state/index.json", content))
    for key, texts in (("schema_version", ("2", "true")), ("step", ("-1", "1.5", "99", "true", "null")),
                       ("meaning", ('"x"', "7")), ("sha256", ('"x"', "null"))):
        yield case(f"index.json without {key}", missing("state/index.json", (key,)))
        for text in texts:
            yield case(f"index.json whose {key} is {text}", value_of("state/index.json", (key,), text))
    for kind in SPECIALS:
        yield case(f"index.json: {kind}", in_place("state/index.json", kind))
        yield case(f"state.safetensors: {kind}", in_place("state/state.safetensors", kind))
    for name, content in safetensors_damaged(safetensors({"weights/dense_0.kernel": ("F32", (64, 8), None)})):
        yield case(f"tensors: {name}, and the index agrees", resealed("state", content))
    for dtype in ("F8_E4M3", "BF16"):
        yield case(f"tensors of {dtype}, and the index agrees", resealed("state", safetensors(
            {"weights/dense_0.kernel": (dtype, (64, 8), None)})))
    yield case("a bit flipped", edit("state/state.safetensors", lambda c: c[:-9] + bytes([c[-9] ^ 4]) + c[-8:]))
    yield case("metrics that are none", edit("state/metrics.jsonl", b"\xff\n[]\n"))


# ---- checkpoints

CONVERT = {"jax": ("convert", "jax", "--to", "out"), "keras": ("convert", "keras", "--to", "out")}
OLDER = "trying the one before"
FILES = {"jax": "step_{}/default", "keras": "step-{}."}


def largest(here, backend, step):
    """The largest file of a checkpoint."""
    root = here / backend / "checkpoints"
    files = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()
             and file.relative_to(root).as_posix().startswith(FILES[backend].format(step))]
    return max(files, key=lambda file: (file.stat().st_size, str(file)))


def spoilt(backend, change, steps=(4,)):
    def make(here, chance):
        for step in steps:
            change(largest(here, backend, step), chance)
    return make


def flip(file, chance):
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)


def agreeing(change, pattern="*"):
    """Changes files of the newest checkpoint, and lets its manifest agree with them."""
    def make(here, chance):
        backend = next(name for name in BOTH if (here / name).exists())
        root = here / backend / "checkpoints"
        manifest = json.loads((root / "manifests" / "step_4.json").read_text())
        for name in [name for name in manifest["files"] if pattern in name]:
            change(root / name, chance)
            content = (root / name).read_bytes()
            manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (root / "manifests" / "step_4.json").write_text(json.dumps(manifest))
    return make


DAMAGES = {
    "a bit flipped": flip,
    "cut in half": lambda file, _: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file, _: os.truncate(file, 0),
    "zeroed": lambda file, _: file.write_bytes(bytes(file.stat().st_size)),
    "gone": lambda file, _: file.unlink(),
    "grown": lambda file, _: file.write_bytes(file.read_bytes() + b"\x00")}


def to_fifo(file, _):
    file.unlink()
    os.mkfifo(file)


def to_link(file, _):
    copy = file.parents[len(file.parts) - 1 - file.parts.index("checkpoints")] / "copied"
    shutil.move(file, copy)
    file.symlink_to(copy)


def to_directory(file, _):
    file.unlink()
    file.mkdir()


DAMAGES |= {"a FIFO": to_fifo, "a link to a copy": to_link, "a directory": to_directory}


def checkpoints():
    for backend in BOTH:
        words, needs, manifest = CONVERT[backend], (backend,), f"{backend}/checkpoints/manifests/step_4.json"

        def case(name, make, codes=(0,), says=OLDER, backend=backend, words=words, needs=needs, writes=("out",)):
            return Case("checkpoints", f"{backend}: {name}", words, make, needs, codes, says, room=backend,
                        writes=writes)

        for name, change in DAMAGES.items():
            yield case(f"the newest {name}", spoilt(backend, change))
        for name in ("a bit flipped", "gone", "a FIFO"):
            yield case(f"all {name}", spoilt(backend, DAMAGES[name], (2, 4)), (1,), "none is whole")
        for name, content in list(json_shapes())[:: 1 if backend == "jax" else 3]:
            yield case(f"a manifest of {name}", edit(manifest, content))
        for key, texts in (("schema_version", ("2", "null")), ("step", ("3", '"4"')), ("meaning", ('"x"', "7")),
                           ("seed", ("7", "null")), ("backend", ('"torch"', "7")),
                           ("files",
                            ("{}", "[]", "7", '{"a": 1}', '{"../../mine/letter.txt": {"bytes": 16, "sha256": "x"}}'))):
            if backend == "jax" or key in ("files", "backend"):
                yield case(f"a manifest without {key}", missing(manifest, (key,)))
                for text in texts:
                    yield case(f"a manifest whose {key} is {text[:30]}", value_of(manifest, (key,), text))
        for kind in SPECIALS[:: 1 if backend == "jax" else 3]:
            yield case(f"a manifest: {kind}", in_place(manifest, kind))

        def some(content):
            value = json.loads(content)
            value["files"] = dict(list(value["files"].items())[:1])
            return json.dumps(value).encode()

        yield case("a manifest that lists some files alone", edit(manifest, some))
        other = {"jax": "keras", "keras": "jax"}[backend]
        yield case("a manifest of the other backend", lambda here, _, manifest=manifest, other=other: shutil.copy(
            here / other / "checkpoints/manifests/step_4.json", here / manifest), needs=BOTH)
        yield case("a manifest named as no step", lambda here, _, manifest=manifest: shutil.copy(
            here / manifest, here / manifest.replace("step_4", "step_four")), (0, 1, 2), "")
        if backend == "jax":
            for pattern in ("_METADATA", "default/manifest.ocdbt", "_CHECKPOINT_METADATA"):
                for name in ("emptied", "zeroed", "cut in half"):
                    yield case(f"{pattern} {name}, and the manifest agrees", agreeing(DAMAGES[name], pattern), (0, 1),
                               "")
        else:
            for pattern in (".index", ".data"):
                for name in ("emptied", "cut in half"):
                    yield case(f"{pattern} {name}, and the manifest agrees", agreeing(DAMAGES[name], pattern), (0, 1),
                               "")

        def killed(here, chance, backend=backend):
            info = json.loads((here / backend / "run.json").read_text())
            (here / backend / "run.json").write_text(json.dumps(info | {"state": "running"}))
            flip(largest(here, backend, 4), chance)

        yield case("a training goes on past a flipped bit", killed, words=(
            "train", "mlp.toml", "--backend", backend, "--run", backend, "--trace", "sketch", "--twin-steps", "4"),
            needs=("mlp.toml", backend), writes=(backend,))


def checkpoints_odd():
    for backend in BOTH:
        def case(name, make, words=None, backend=backend):
            return Case("checkpoints", f"{backend}: {name}", words or CONVERT[backend], make, (backend,), (0,),
                        says="after 4 updates", room=backend, benign=True)

        yield case("as they are", None)
        yield case("other files beside", edit(f"{backend}/checkpoints/notes.txt", b"mine"))
        for name in ("with space", "[a]*?"):
            yield case(f"a directory named {name}", lambda here, _, name=name, backend=backend: (
                here / backend).rename(here / name), ("convert", f"./{name}", "--to", "out"))
        yield case("a path with ..", None, ("convert", f"mine/../{backend}", "--to", "out"))
