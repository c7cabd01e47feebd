"""Jobs of the peers, how many weights ours has of the same recipe, and what single operations are."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy

from twinscale.benchmarks.peers import operations
from twinscale.benchmarks.timing.peers import job
from twinscale.common.families.parameters import parameters, trained_size
from twinscale.common.recipe.schema import Recipe

MODELS = {"encoder": {"family": "encoder", "layers": 2, "width": 8, "heads": 2, "vocabulary": 300, "positions": 9,
                      "types": 2, "head": "sequence", "dropout": 0.1},
          "decoder": {"family": "decoder", "layers": 2, "width": 8, "heads": 2}}
DATA = {"encoder": {"source": "csv:x", "tokenizer": "wordpiece", "vocabulary": 300}, "decoder": {}}
SHAPES = {"encoder": (("ids", (6,), "int32"),), "decoder": (6,)}


@pytest.fixture(params=MODELS)
def asked(request):
    """(the job of a tiny model, how many weights ours has)."""
    recipe = Recipe.model_validate({"name": "x", "data": {"sequence": 6} | DATA[request.param],
                                    "model": MODELS[request.param], "train": {"global_batch": 3}})
    shape = SHAPES[request.param]
    described = job(recipe, SimpleNamespace(classes=5, example_shape=shape))
    return described, trained_size(parameters(recipe.model, 5, shape))


# ---- single operations

SMALL = {"batch": 2, "length": 4, "width": 8, "hidden": 16, "heads": 2, "shapes": [[3, 5], [7]]}
# Every result is a sum of at most 16 terms, of which each and each sum is rounded once, of functions of a few roundings
# of their own: 64 times half of what a float32 is rounded by, of the largest of its values.
ROUNDED = 64 * 2.0**-24


def normed(x, scale, bias):
    """Layer norm in NumPy."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + operations.NORM) * scale + bias


MEANT = {"layer norm": normed, "transposing copy": lambda x: x.transpose(0, 2, 1, 3), "product": np.matmul,
         "scores": lambda q, k: np.einsum("bhtd,bhsd->bhts", q, k), "softmax": lambda x: scipy.special.softmax(x, -1),
         "gelu": lambda x: x * scipy.special.ndtr(x)}


def gradients(function, given, arriving, step=1e-5):
    """Those of sum(function(given) * arriving), in float64 by central differences, whose error is below 1e-8."""
    found = []
    for x in given:
        slope = np.empty_like(x)
        for i in np.ndindex(x.shape):
            kept, ends = x[i], []
            for moved in (kept + step, kept - step):
                x[i] = moved
                ends.append(np.sum(function(*given) * arriving))
            x[i] = kept
            slope[i] = (ends[0] - ends[1]) / (2 * step)
        found.append(slope)
    return found


def meant(name, given):
    """What an operation of float64 arrays gives."""
    if name == "update":  # the first of zeros: the mean over the root of the mean square is the gradient's sign
        return [-operations.RATE * g / (np.abs(g) + operations.EPSILON) for g in given]
    if not name.endswith(operations.GRADIENT):
        return [MEANT[name](*given)]
    function, (*read, arriving) = MEANT[name.removesuffix(operations.GRADIENT)], given
    return [function(*read), *gradients(function, read, arriving)]


@pytest.fixture
def not_as_meant():
    """not_as_meant(made): the operations that a side's `made` does not compute as they are meant, in float32."""
    def looked(made):
        odd = []
        for name in operations.operations(SMALL):
            given = operations.arrays(SMALL, name)
            found = made(name, given)()
            found = [np.asarray(x) for x in (found if isinstance(found, (list, tuple)) else [found])]
            expected = meant(name, [x.astype(np.float64) for x in given])
            alike = [each.shape == should.shape and each.dtype == np.float32
                     and np.abs(each - should).max() <= ROUNDED * max(1, np.abs(should).max())
                     for each, should in zip(found, expected, strict=True)]
            odd += [] if all(alike) else [name]
        return odd

    return looked
