"""Hostile models of others: files of formats without the export.json that vouches for them."""

import json
import os
import shutil

import numpy as np

from tests.hostile.exports import given, npy, zipped
from tests.hostile.stage import MARK, Case


def models():
    """Files of formats without the export.json that vouches for them; `pristine` has made those that hold code."""
    numbers = given("x.npy", npy(np.zeros((1, 8, 8, 1), np.float32)))

    def case(name, path, make, codes=(2,), room="keras", needs=()):
        def both(here, chance):
            numbers(here, chance)
            make(here, chance)
        return Case("models", name, ("predict", path, "--input", "x.npy"), both, needs, codes, room=room)

    for name in ("reads_file", "writes_file", "prints", "python"):
        yield case(f"a SavedModel that {name.replace('_', ' a ')}", "m", lambda here, _, name=name: armed(
            here, here / "evil" / name, here / "m"), needs=("evil",))
    for name in ("lambda.keras", "system.keras", "eval.keras"):
        yield case(f"a .keras file: {name}", f"evil/{name}", lambda here, _: None, needs=("evil",))

    for what, path, room in (("a SavedModel", "export-keras/savedmodel/saved_model.pb", "keras"),
                             ("variables", "export-keras/savedmodel/variables/variables.index", "keras"),
                             ("a .keras file", "export-keras/model.keras", "keras"),
                             ("a LiteRT file", "export-keras/float.tflite", "keras"),
                             ("a StableHLO file", "export-jax/model.stablehlo", "jax")):
        root = path.split("/")[0]
        target = "export-keras/savedmodel" if "savedmodel" in path else path

        def alone(change, root=root, path=path):
            def make(here, chance):
                (here / root / "export.json").unlink()
                change(here / path, chance)
            return make

        for name, change in (("emptied", lambda file, _: os.truncate(file, 0)),
                             ("cut in half", lambda file, _: os.truncate(file, file.stat().st_size // 2)),
                             ("zeroed", lambda file, _: file.write_bytes(bytes(file.stat().st_size))),
                             ("of random bytes", lambda file, chance: file.write_bytes(chance.randbytes(500)))):
            yield case(f"{what} {name}", target, alone(change), (1, 2), room, (root,))
        if what != "variables":
            def to_fifo(file, _):
                file.unlink()
                os.mkfifo(file)
            yield case(f"{what}: a FIFO", target, alone(to_fifo), (2,), room, (root,))
    for name, files in (("no zip", None), ("an empty zip", {}), ("a config of null", {"config.json": b"null"}),
                        ("a config nested deep", {"config.json": b"[" * 100_000}),
                        ("a config that names a module",
                         {"metadata.json": b'{"keras_version": "3.15.1"}', "config.json": json.dumps(
                            {"module": "os", "class_name": "system", "config": {"command": "touch CANARY"}}).encode(),
                            "model.weights.h5": b""}),
                        ("names that lead out", {"../../mine/letter.txt": b"x", "config.json": b"{}"})):
        yield case(f"a .keras file of {name}", "m.keras", given(
            "m.keras", b"text" if files is None else zipped(files)), (2,))
    yield case("a directory of a FIFO named saved_model.pb", "m", lambda here, _: (
        (here / "m").mkdir(), os.mkfifo(here / "m" / "saved_model.pb")), (2,), "none")


def armed(here, source, target):
    """A SavedModel whose graph names a file: the placeholder's length is the length of the path."""
    shutil.copytree(source, target)
    file = target / "saved_model.pb"
    path = str(here / MARK).encode()
    if len(path) < 200:
        file.write_bytes(file.read_bytes().replace(b"@" * 200, path.rjust(200, b"/")))
