"""The Keras program on JAX trains as Flax does: the same step, mesh and checkpoints, another model and optimizer."""

import json
import subprocess
import sys

import numpy as np
import pytest

from twinscale.common.files.tensors import difference
from twinscale.common.numbers.formats import EPS, walk

ROOMS = {"keras-jax": "twinscale.kerasjax", "jax": "twinscale.jaxscale"}
DECODER = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "dropout": 0.25, "positions": "rotary", "norm": "rms",
           "activation": "swiglu", "tied": False}
KINDS = [("decoder", DECODER), ("decoder", {"dropout": 0.1, "tied": True}), ("convnet", {}), ("encoder", {}),
         ("mlp", {"dropout": 0.1}), ("vit", {}), ("resnet", {})]


def agree(a, b, far):
    """Whether two files of tensors have the same names, and agree within `far`, relative to the largest of a group."""
    assert a.keys() == b.keys() and len(a) > 3
    largest = {name.partition("/")[0]: 0.0 for name in a}
    for name, x in b.items():
        largest[name.partition("/")[0]] = max(largest[name.partition("/")[0]], float(np.abs(x).max()))
    off = {name: float(np.abs(a[name] - x).max() / largest[name.partition("/")[0]]) for name, x in b.items()}
    assert max(off.values()) <= far, max(off.items(), key=lambda item: item[1])


@pytest.mark.parametrize("family, model", [
    KINDS[0], *(pytest.param(*kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_a_first_step_is_flax_s(left, recipe_of, family, model):
    """Logits, loss and gradients, where the program has no leak: a sum over 128 positions in another order at most."""
    found = left(recipe_of(family, model=model))
    agree(found["keras-jax"], found["jax"], 16 * walk(128) * EPS["float64"])


@pytest.mark.parametrize("how", [{"jax": {"scan": True, "remat": "full"}}, {"jax": {"remat": "dots", "loss_chunks": 4}},
                                 {"train": {"accumulate": 2}}])
def test_how_blocks_run_changes_no_number(left, recipe_of, how):
    """Under a scan dropout draws at the places of each block, and weights are those of each."""
    plain = left(recipe_of("decoder", model=DECODER), "keras-jax")["keras-jax"]
    found = left(recipe_of("decoder", model=DECODER, **how), "keras-jax")["keras-jax"]
    agree(found, plain, 16 * walk(128) * EPS["float64"])


def test_adapters_of_blocks_under_a_scan_drop_rows_each_by_its_own_place(left, recipe_of):
    """They keep their own names, of which dropout draws, beside kernels that are stacked."""
    adapted = {"adapt": {"kind": "lora", "rank": 2, "dropout": 0.5, "targets": ["*attention.query.kernel"]}}
    found = left(recipe_of("decoder", model=DECODER, jax={"scan": True}, **adapted))
    agree(found["keras-jax"], found["jax"], 16 * walk(128) * EPS["float64"])


OPTIMIZERS = [{"name": "adamw"}, {"name": "sgd", "momentum": 0.9, "nesterov": True}, {"name": "lion"}, {"name": "lamb"}]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["name"])
@pytest.mark.parametrize("scan", [False, True])
def test_updates_are_those_of_optax(left, recipe_of, optimizer, scan):
    """And LAMB takes each block's ratio by itself, of blocks that are stacked too."""
    recipe = recipe_of("decoder", model=DECODER, optimizer={"ema": 0.9, "weight_decay": 0.1, **optimizer},
                       jax={"scan": scan})
    found = left(recipe, call="optimizer_steps", updates=3)
    agree(found["keras-jax"], found["jax"], 64 * EPS["float64"])


def test_a_fault_of_the_program_is_in_this_column_too(workers, left, recipe_of):
    recipe = recipe_of("decoder", model={"norm": "layer"})
    healthy = left(recipe)
    workers["keras-jax"].ask("plant", change="norm_epsilon")
    try:
        found = left(recipe, "keras-jax")["keras-jax"]
    finally:
        workers["keras-jax"].ask("plant", change=None)
    assert difference(found["loss"], healthy["jax"]["loss"]) > 1e3 * difference(*(x["loss"] for x in healthy.values()))


BORN = """
import json, resource, sys
from twinscale.kerasjax.framework import KERAS
from twinscale.jaxscale.lower import new_shapes
from twinscale.common.recipe.file import load
from pathlib import Path

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
state = new_shapes(load(Path(sys.argv[1]), []), 128_256, (4096,), KERAS)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps({"tensors": len(state.weights), "bytes": sum(x.size * 4 for x in state.weights.values()),
                  "grown": grown << 10, "tensorflow": "tensorflow" in sys.modules}))
"""


def test_a_large_model_is_made_without_its_weights(tmp_path):
    """Shapes alone: 8B parameters take 32 GB, and their description less than 1 GB. No TensorFlow is there."""
    done = subprocess.run([sys.executable, "-c", BORN, "recipes/tpu/decoder-8b.toml"], capture_output=True, text=True,
                          check=True)
    said = json.loads(done.stdout)
    assert said["bytes"] > 30e9 and said["grown"] < 1e9 and said["tensors"] > 8 and not said["tensorflow"]
