"""Recipes in what a stranger has made, which name code that lies beside them, or a module: none of it may run."""

import json

from tests.hostile.pristine import ROOT
from tests.hostile.recipes import with_value
from tests.hostile.stage import MARK, Case

EVIL = f"open({MARK!r}, 'w')\nraise ValueError('it has run')\n"
REFUSED = r"that you have not named on this machine, and so it is not (run|imported): .*`twinscale trust "
FILE, MODULE = "evil.py:EVIL", "this:EVIL"  # `this` speaks as soon as it is imported
BENIGN = """from twinscale.common.metrics import Metric
MINE = Metric("mine", lambda *of: {}, lambda sums: {})
"""
NAMED = ("data.source", "optimizer.name", "schedule.kind", "objective.name", "train.metrics", "model.family")
READERS = {  # verbs by what they read back: (the directory, the command, what it needs)
    "compare-runs": ("jax", ("compare-runs", "jax", "keras", "--out", "out"), ("jax", "keras")),
    "export": ("jax", ("export", "jax", "--to", "out"), ("jax",)),
    "convert": ("jax", ("convert", "jax", "--to", "out"), ("jax",)),
    "compress": ("jax", ("compress", "jax", 'compress.stages=[{kind="post_training"}]', "--recipe", "mlp.toml",
                         "--backend", "jax", "--out", "out"), ("jax", "mlp.toml")),
    "train": ("jax", ("train", "jax/recipe.toml", "--backend", "jax", "--run", "out"), ("jax",)),
    "export of a state": ("state", ("export", "state", "--to", "out"), ("state",)),
    "bisect": ("compared", ("bisect", "compared"), ("compared",)),
    "predict": ("export-words", ("predict", "export-words", "--input", "prompt.txt"), ("export-words",))}


def naming(folder, reference, key="model.family"):
    """Lets the recipe in a directory name code, and lays the code beside it."""
    def make(here, _):
        path = here / folder / "recipe.toml"
        path.write_text(with_value(key, f'["{reference}"]' if key == "train.metrics" else f'"{reference}"',
                                   path.read_text()))
        (here / folder / "evil.py").write_text(EVIL)
        (here / "prompt.txt").write_text("the loss")
        if folder == "compared":
            verdict = json.loads((here / folder / "verdict.json").read_text())
            (here / folder / "verdict.json").write_text(json.dumps(verdict | {"agrees": False}))
        if folder == "export-words":
            about = json.loads((here / folder / "export.json").read_text())
            (here / folder / "export.json").write_text(json.dumps(about | {"family": reference}))
    return make


def read_back():
    """Whatever verb reads it back, a run's, a state's, a comparison's or an export's recipe runs nothing."""
    for verb, (folder, words, needs) in READERS.items():
        for what, reference in (("a file", FILE), ("a module", MODULE)):
            yield Case("code", f"{verb}: {what} that the recipe names", words, naming(folder, reference), needs,
                       says=REFUSED)
    for key in NAMED:
        folder, words, needs = READERS["compare-runs"]
        yield Case("code", f"compare-runs: {key} of a run", words, naming(folder, FILE, key), needs, says=REFUSED)


def laid(text, *markers, folder="theirs"):
    """A directory as a stranger hands it on."""
    def make(here, _):
        (here / folder).mkdir()
        (here / folder / "recipe.toml").write_text(text)
        (here / folder / "evil.py").write_text(EVIL)
        (here / "lib").mkdir()
        (here / "lib" / "evil_module.py").write_text(EVIL)
        (here / "further.toml").write_text(f'extends = ["{folder}/recipe.toml"]\nname = "mine"\n')
        (here / "linked.toml").symlink_to(f"{folder}/recipe.toml")
        (here / "evil.py").symlink_to(f"{folder}/evil.py")
        for marker in markers:
            (here / folder / marker).write_text("{}")
    return make


def written():
    """A recipe that is named at a command is the user's own word, but not where it lies in what a verb has filled."""
    for name, reference in (("a file", FILE), ("a file in full", "HERE/theirs/evil.py:EVIL"), ("a module", MODULE)):
        text = with_value("train.metrics", f'["{reference}"]')
        for how, file in (("", "theirs/recipe.toml"), (", extended", "further.toml"), (", by a link", "linked.toml")):
            def make(here, chance, text=text):
                laid(text.replace("HERE", str(here)), "run.json")(here, chance)
            yield Case("code", f"a run's recipe names {name}{how}", ("recipe", "show", file), make, says=REFUSED)
    text = with_value("train.metrics", '["evil_module:EVIL"]')
    yield Case("code", "a run's recipe names a module that Python finds", ("recipe", "show", "theirs/recipe.toml"),
               laid(text, "run.json"), says=REFUSED, room="process",
               environment=(("PYTHONPATH", f"HERE/lib:{ROOT}"),))


def named():
    """Code of the user's own, which he names, is run."""
    def make(here, _):
        (here / "mine.py").write_text(BENIGN)
        (here / "r.toml").write_text(with_value("train.metrics", '["mine.py:MINE"]'))

    yield Case("code", "a recipe of the user's own", ("recipe", "show", "r.toml"), make, codes=(0,), benign=True,
               check=lambda here, out: None if "mine.py:MINE#sha256=" in out else "it is not there")
