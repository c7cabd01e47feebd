"""The inputs in order that cases are made from: corpora, recipes, and tiny runs and exports of both backends."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORDS = ("the", "of", "and", "to", "in", "that", "is", "was", "for", "on", "with", "as", "by", "at", "from", "train",
         "loss", "step", "bytes", "weights", "batch", "seed")
MLP = """name = "tiny"
[data]
source = "digits"
held_out = 0.2
[model]
family = "mlp"
hidden = [8]
[optimizer]
learning_rate = 1e-3
[train]
steps = 4
global_batch = 8
log_every = 1
save_every = 2
save_minutes = 0
keep = 3
[compare]
float64_steps = 2
"""
TEXT = """name = "words"
[data]
source = "text:texts/*.txt"
tokenizer = "bpe"
vocabulary = 300
sequence = 16
held_out = 0.3
[model]
family = "decoder"
layers = 1
width = 16
heads = 2
[train]
steps = 2
global_batch = 4
log_every = 1
"""
# What is made by a verb, one after another in each list: (the directory, the command).
MADE = {
    "jax": [
        ("jax", "train mlp.toml --backend jax --run jax --trace sketch --twin-steps 4"),
        ("state", "convert jax --to state"),
        ("words", "train text.toml --backend jax --run words"),
        ("export-jax", "export jax --to export-jax --formats stablehlo,safetensors"),
        ("export-words", "export words --to export-words --formats safetensors")],
    "keras": [
        ("keras", "train mlp.toml --backend keras --run keras --trace sketch --twin-steps 4"),
        ("export-keras", "export keras --to export-keras --formats savedmodel,keras,litert-float,safetensors"),
        ("evil", "models whose files hold more than a model"),
        ("compared", "compare mlp.toml train.steps=2 --out compared")]}


def pristine(out, keep=False):
    """The directory of the inputs in order, made where it is not there of these very sources; with `keep` whatever
    sources it is of."""
    made, key = out / "pristine", out / "pristine" / ".sources"
    now = sources()
    if key.exists() and (keep or key.read_text() == now):
        return made
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    lay(made)
    sides = [subprocess.Popen([sys.executable, "-m", "tests.hostile.pristine", str(made), side], cwd=ROOT)
             for side in MADE]
    if any(side.wait() for side in sides):
        raise SystemExit("the inputs in order could not be made; what was said is above")
    key.write_text(now)
    return made


def sources():
    """SHA-256 of everything that the inputs are made by."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for room in ("common", "jaxscale", "tfscale", "benchmarks"):
        for file in sorted((ROOT / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def lay(made):
    """Writes what needs no training: recipes, texts, images, and files of plans."""
    (made / "mlp.toml").write_text(MLP)
    (made / "text.toml").write_text(TEXT)
    texts, chance = made / "texts", random.Random(0)
    texts.mkdir()
    for number in range(24):
        words = [chance.choice(WORDS) for _ in range(60)]
        (texts / f"{number:02}.txt").write_text(" ".join(words) + ".\n")
    (made / "lines.jsonl").write_text("".join(
        json.dumps({"text": file.read_text()}) + "\n" for file in sorted(texts.iterdir())))


def make(made, side):
    """Makes one list, a verb after another."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TWINSCALE_CACHE": str(made / "cache"),
                   "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name, words in MADE[side]:
        program = ["tests.hostile.evil", str(made)] if name == "evil" else ["twinscale.common.cli", *words.split()]
        done = subprocess.run([sys.executable, "-P", "-m", *program], cwd=made, env=environment, capture_output=True,
                              text=True)
        if done.returncode not in (0, 3):
            sys.exit(f"{words}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-3000:]}")
        print(f"  in order: {name}", flush=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute(), sys.argv[2])
