"""What may have happened to what the cache holds of a corpus and of images."""

import json
import os
import shutil
import struct
import sys

import numpy as np

from tests.hostile.corpora import bomb
from tests.hostile.damage import json_shapes, with_value
from tests.hostile.stage import ROOT, Case

TEXT, IMAGES = ("text.toml", "texts"), ("mlp.toml",)
CACHED = (("TWINSCALE_CACHE", "HERE/cache"),)
AGAIN = r"(?i)cache"  # what is said where something broken is built again


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


def healed(name, damage, needs=TEXT):
    """A case of a cache that is built again, of which a user is told, and gives what it gave."""
    return Case("caches", name, ("read-data", needs[0]), warmed(damage), needs, (0,), says=AGAIN, check=as_before,
                writes=("out", "cache"), environment=CACHED)


def ids():
    for split in ("train", "held_out"):
        for where in (0.2, 0.5, 0.99):
            yield healed(f"a bit of the {split} ids flipped, at {where:.0%}",
                         flipped("tokens", f"{split}-00000.npy", where))
        yield healed(f"the {split} ids cut short", replaced("tokens", f"{split}-00000.npy", lambda c: c[:-20]))
        yield healed(f"the {split} ids zeroed", replaced(
            "tokens", f"{split}-00000.npy", lambda c: c[:128] + bytes(len(c) - 128)))
        yield healed(f"the {split} ids reversed", replaced(
            "tokens", f"{split}-00000.npy", lambda c: c[:128] + np.frombuffer(c[128:], "<u2")[::-1].tobytes()))


def ids_in_place():
    """Something else where ids are looked for."""
    def swapped(cache, _):
        folder = folder_of(cache, "tokens")
        a, b = folder / "train-00000.npy", folder / "held_out-00000.npy"
        one, other = a.read_bytes(), b.read_bytes()
        a.write_bytes(other)
        b.write_bytes(one)
        sealed(folder)

    def linked(cache, _):
        path = folder_of(cache, "tokens") / "train-00000.npy"
        shutil.move(path, cache / "elsewhere.npy")
        path.symlink_to("/dev/zero")

    yield healed("the splits swapped", swapped)
    yield healed("ids that are a pickle", lambda cache, _: (
        folder_of(cache, "tokens") / "train-00000.npy").write_bytes(bomb(cache.parent)))
    yield healed("ids of a length that is not there", replaced(
        "tokens", "train-00000.npy", lambda c: c.replace(b"'shape': (", b"'shape': (9")[:len(c)]))
    yield healed("ids that are gone", lambda cache, _: (folder_of(cache, "tokens") / "train-00000.npy").unlink())
    yield healed("ids that are a device", linked)


def manifests():
    """Of the ids, and the seals of all files."""
    def piped(cache, _):
        path = folder_of(cache, "tokens") / "manifest.json"
        path.unlink()
        os.mkfifo(path)

    yield healed("a manifest that is a FIFO", piped)
    for name, content in json_shapes():
        yield healed(f"a manifest of {name}", replaced("tokens", "manifest.json", lambda _, content=content: content))
    for place, value in ((("train", "shards", 0, "file"), '"../../../mine/letter.txt"'),
                        (("train", "shards", 0, "file"), '"/etc/passwd"'), (("train", "shards", 0, "file"), "7"),
                        (("train", "shards"), "[]"), (("train", "longest"), "-1"), (("train", "longest"), "1e999"),
                        (("train", "sha256"), '"\\u001b[31m"'), (("train", "documents"), '"many"')):
        yield healed(f"a manifest whose {'.'.join(map(str, place))} is {value}", replaced(
            "tokens", "manifest.json", lambda c, place=place, value=value: with_value(c, place, value)))
    for name, content in json_shapes():
        yield healed(f"a seal of {name}", lambda cache, _, content=content: (
            folder_of(cache, "tokens") / "files.json").write_bytes(content))


def tokenizers():
    yield healed("a tokenizer with a bit flipped", flipped("bpe", "tokenizer.json", 0.9))
    yield healed("a tokenizer cut in half", replaced("bpe", "tokenizer.json", lambda c: c[:len(c) // 2]))
    yield healed("a tokenizer of other merges",
                 replaced("bpe", "tokenizer.json", lambda c: c.replace(b'"t",', b'"u",', 1)))
    yield healed("a tokenizer emptied", replaced("bpe", "tokenizer.json", lambda c: b"{}"))


def images():
    for name in ("images", "labels"):
        yield healed(f"{name} with a bit flipped", flipped("images", f"{name}.npy"), IMAGES)
        yield healed(f"{name} cut short", replaced("images", f"{name}.npy", lambda c: c[:-9]), IMAGES)
    yield healed("labels past the classes", replaced(
        "images", "labels.npy", lambda c: c[:-4] + struct.pack("<i", 99)), IMAGES)
    yield healed("classes that are a pickle", lambda cache, _: (
        folder_of(cache, "images") / "classes.npy").write_bytes(bomb(cache.parent)), IMAGES)
    yield healed("classes that are none", replaced("images", "classes.npy", lambda c: c[:-8] + bytes(8)), IMAGES)


def caches():
    def file_in_place(here, _):
        (here / "cache").write_text("a letter")

    for part in (ids, ids_in_place, manifests, tokenizers, images):
        yield from part()
    yield Case("caches", "a file in the place of the cache", ("read-data", "text.toml"), file_in_place, TEXT,
               (2, 4, 74), environment=CACHED, writes=("out",))


def caches_odd():
    def half(here, _):
        (here / "cache" / ".building-x" / "tokens").mkdir(parents=True)
        (here / "cache" / "tokens-0").mkdir()

    yield Case("caches", "what a kill has left of a building", ("read-data", "text.toml"), half, TEXT, (0,),
               benign=True, environment=CACHED, writes=("cache",))
    yield Case("caches", "as it is", ("read-data", "text.toml"), warmed(lambda *_: None), TEXT, (0,),
               check=as_before, benign=True, environment=CACHED, writes=("cache",))

    def older(cache, _):
        for folder in cache.iterdir():
            for file in folder.iterdir():
                os.utime(file, (0, 0))

    yield Case("caches", "copied with other times", ("read-data", "text.toml"), warmed(older), TEXT, (0,),
               check=as_before, benign=True, environment=CACHED, writes=("cache",))
