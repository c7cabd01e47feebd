"""What a verb may touch, and what lies in the directory that it is called in."""

import json
import shutil

from tests.hostile.plans import PLAN
from tests.hostile.stage import MARK, Case

NEEDS = ("jax", "keras", "mlp.toml", "state", "compared")
FILLS = {  # verbs that fill a directory, by what they are given; the first that is asked for is the directory
    "convert": ("convert", "jax", "--to"), "export": ("export", "jax", "--to"),
    "export --overwrite": ("export", "jax", "--overwrite", "--to"),
    "compare": ("compare", "mlp.toml", "--out"), "compare --overwrite": ("compare", "mlp.toml", "--overwrite", "--out"),
    "compare-runs": ("compare-runs", "jax", "keras", "--out"),
    "compare-runs --overwrite": ("compare-runs", "jax", "keras", "--overwrite", "--out"),
    "compress": ("compress", "jax", 'compress.stages=[{kind="post_training"}]', "--recipe", "mlp.toml", "--backend",
                 "jax", "--out"),
    "compress --overwrite": ("compress", "jax", 'compress.stages=[{kind="post_training"}]', "--recipe", "mlp.toml",
                             "--backend", "jax", "--overwrite", "--out"),
    "train": ("train", "mlp.toml", "--backend", "jax", "--run"),
    "train --overwrite": ("train", "mlp.toml", "--backend", "jax", "--overwrite", "--run"),
    "audit": ("audit", "--out"), "audit --overwrite": ("audit", "--overwrite", "--out")}


def directories():
    """A user's folder, another verb's, or a link to one, in the place of a verb's own."""
    for verb, words in FILLS.items():
        room = "jax" if verb in ("convert", "train", "train --overwrite") else "none"
        for name, path in (("a user's folder", "mine"), ("a run", "keras"), ("a comparison", "compared"),
                           ("a state", "state"),
                           ("a file", "mine/letter.txt"), ("a linked folder of a user's", "link")):
            same = (name, verb.split()[0]) in (("a comparison", "compare"), ("a state", "convert")) or (
                name == "a run" and verb == "train --overwrite")  # which is one's own
            if not same:
                yield Case("directories", f"{verb} into {name}", (*words, path), lambda here, _: (
                    here / "link").symlink_to("mine"), NEEDS, (2,), room=room, writes=())
    yield Case("directories", "convert into the run itself", ("convert", "jax", "--to", "jax"), None, NEEDS, (2,),
               room="jax", writes=())

    def linked(here, _):
        """The checkpoints of a run are a link to a user's folder, which has what looks like one."""
        (here / "mine" / "step_99").mkdir()
        (here / "mine" / "step_99" / "data").write_bytes(b"a user's")
        shutil.rmtree(here / "jax" / "checkpoints")
        (here / "jax" / "checkpoints").symlink_to("../mine")
        info = json.loads((here / "jax" / "run.json").read_text())
        info.pop("saved", None)
        (here / "jax" / "run.json").write_text(json.dumps(info | {"state": "running"}))

    for verb, words in (("train", ("train", "mlp.toml", "--backend", "jax", "--run", "jax", "--trace", "sketch",
                                   "--twin-steps", "4")), ("convert", ("convert", "jax", "--to", "out")),
                        ("train --overwrite",
                         ("train", "mlp.toml", "--backend", "jax", "--run", "jax", "--overwrite"))):
        yield Case("directories", f"{verb}, where checkpoints are a link to a user's folder", words, linked, NEEDS,
                   (0, 1, 2) if "over" in verb else (1, 2), room="jax", writes=("jax", "out"))

    def metrics(here, _):
        """What a run appends to and rewrites is a link to a user's file."""
        for name in ("metrics.jsonl", "recipe.toml"):
            (here / "jax" / name).unlink()
            (here / "jax" / name).symlink_to("../mine/letter.txt")

    yield Case("directories", "train --overwrite, where files are links to a user's", (
        "train", "mlp.toml", "--backend", "jax", "--run", "jax", "--overwrite"), metrics, NEEDS, (0, 2), room="jax",
        writes=("jax",))


def directories_odd():
    for verb in ("convert", "export", "compare-runs"):
        if verb == "compare-runs":
            yield Case("directories", f"{verb} into an empty folder", (*FILLS[verb], "out"),
                       lambda here, _: (here / "out").mkdir(), NEEDS, (0,), benign=True)
        if verb == "convert":
            yield Case("directories", f"{verb} into an empty folder", (*FILLS[verb], "out"),
                       lambda here, _: (here / "out").mkdir(), NEEDS, (0,), room="jax", benign=True)
    yield Case("directories", "plan into a folder of a user's", (*PLAN, "--out", "mine"), None, (), (0,), benign=True,
               writes=("mine",), check=lambda here,
               _: None if (here / "mine/letter.txt").exists() else "the letter is gone")


# ---- the working directory

TRAPS = ("json.py", "token.py", "common/__init__.py", "common/errors.py", "numpy.py", "sitecustomize.py", "typing.py",
         "jaxscale/room.py", "random.py")


def working():
    """Modules in the directory that a verb is called in must not be imported, by it or by its children."""
    def trapped(here, _):
        for name in TRAPS:
            (here / name).parent.mkdir(exist_ok=True)
            (here / name).write_text(f"open({str(here / MARK)!r}, 'w').write('ran')\nraise ImportError('a trap')\n")

    for name, words, codes, writes in (
            ("recipe show", ("recipe", "show", "mlp.toml"), (0,), ()),
            ("plan", PLAN, (0,), ()),
            ("compare-runs", ("compare-runs", "jax", "keras", "--out", "out"), (0,), ("out",)),
            ("doctor", ("doctor",), (0, 4), ()),
            ("train --from a run",
             ("train", "mlp.toml", "train.steps=4", "--backend", "jax", "--run", "out", "--from", "jax"), (0,),
             ("out", "jax")),
            ("train --supervise",
             ("train", "mlp.toml", "train.steps=1", "--backend", "jax", "--run", "out", "--supervise"),
             (0,), ("out",)),
            ("launch --go",
             ("launch", "local", "mlp.toml", "train.steps=1", "--backend", "jax", "--run", "out", "--hosts", "1",
              "--go"), (0,), ("out",)),
            ("export", ("export", "jax", "--to", "out", "--formats", "safetensors"), (0,), ("out",))):
        yield Case("working directory", name, words, trapped, ("jax", "keras", "mlp.toml"), codes, room="process",
                   writes=writes)


