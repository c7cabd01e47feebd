"""`python -m tests.chance recipes/compress-mlp.toml --seeds 20`: is the verdict on a compression ever wrong by chance?

Compares the recipe's stages from each seed, in two processes that stay open, and prints a row for each rung; it ends
with 1 where one of them parts. With `--plant` JAX's ranges of activations are a hundredth too wide: every seed parts.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from twinscale.benchmarks.compression import compare as compression
from twinscale.benchmarks.compression import parity as compression_parity
from twinscale.benchmarks.compression import stages as compression_stages
from twinscale.benchmarks.workers import ROOMS, each, open_workers
from twinscale.common.compress.recipes import dense_recipe
from twinscale.common.compress.rules import stripped
from twinscale.common.errors import TwinscaleError
from twinscale.common.files.tensors import load_tensors, save_tensors
from twinscale.common.recipe.file import load


def main():
    words = argparse.ArgumentParser(prog="python -m tests.chance", description=__doc__)
    words.add_argument("recipe")
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--plant", action="store_true", help="a wrong range in JAX's quantiser")
    words.add_argument("--out", type=Path, help="where what is trained goes; default: nowhere that stays")
    chosen = words.parse_args()
    rooms = ROOMS | ({"jax": "tests.wrong_range"} if chosen.plant else {})
    found = {"PYTHONPATH": str(Path(__file__).parents[1])}  # this folder, which is in no package
    with tempfile.TemporaryDirectory() as folder, open_workers(found, rooms) as workers:
        agreed = [one(workers, load(chosen.recipe, [f"seed={seed}"]), (chosen.out or Path(folder)) / f"seed-{seed}")
                  for seed in range(chosen.seeds)]
    print(f"{sum(agreed)} of {len(agreed)} seeds agree")
    sys.exit(0 if all(agreed) else 1)


def one(workers, recipe, out):
    """Whether both backends agree on every stage of a recipe; prints its rungs."""
    compression.prepare_stages(out, recipe, False, {})
    each(workers, lambda worker: compression_stages.train_dense(worker, recipe, out))
    for backend in ROOMS:
        dense = load_tensors(compression_stages.run_path(out, backend, "dense") / "trace/final.safetensors")
        save_tensors(compression_stages.left_path(out, backend, "dense"), stripped(dense_recipe(recipe), dense))
    agrees = True
    for number, described, label in compression_stages.stages(recipe):
        left = compression_stages.left_path(out, "keras", compression_stages.before(recipe, number))
        compression_stages.make_start(workers["keras"], described, out, label, left)
        finals = each(workers, lambda w: compression_stages.train(w, described, out, label, twins=True))  # noqa: B023
        for backend in ROOMS:
            compression_stages.finished(described, out, backend, label, finals[backend])
        for rung in compression_parity.judge_stage(described, out, label, workers)["rungs"]:
            agrees = agrees and rung["agrees"]
            print(f"seed {recipe.seed:>3}  {rung['name']:<20} {'holds' if rung['agrees'] else 'PARTS':<6}"
                  f"{rung['worst']:>9.2g} of {rung['bound']:<9.2g} {rung['where']}", flush=True)
    return agrees


if __name__ == "__main__":
    try:
        main()
    except TwinscaleError as error:
        sys.exit(f"chance: {error}")
