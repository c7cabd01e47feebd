"""Generation in both rooms: the cache changes no logit, both write the same tokens, and a sampler that is not its
trainer is seen."""

import importlib
import itertools

import numpy as np
import pytest

from twinscale.common.export.formats import Shape
from twinscale.common.families.parameters import initial_values, parameters
from twinscale.common.generation.check import apart, near_ties, trained
from twinscale.common.generation.loop import Asked, Sampler, generate
from twinscale.common.generation.sample import Drawing, log_softmax
from twinscale.common.recipe.schema import master_dtype

pytestmark = pytest.mark.usefixtures("hurried")

LENGTH, CLASSES = 16, 257
PROMPTS = [np.array([70, 71, 72], np.int32), np.array([90, 20, 33, 200, 7], np.int32)]
# A logit's error, of the largest. A forward pass through these models is a chain of at most 27 contractions of at most
# K = 64 terms, each off by sqrt(K) eps = 8 eps of its scale; two passes are apart by 2 x 27 x 8 = 432 eps.
BOUND = 432 * 2.0**-52
# Seven two-valued options: none, all, and in the models between each with and without its neighbours.
OPTIONS = {"norm": "rms", "positions": "rotary", "tied": False, "bias": False, "kv_heads": 2, "activation": "swiglu",
           "bottleneck": 5}
MODELS = [{}, OPTIONS, *(pytest.param(dict(itertools.islice(OPTIONS.items(), *part)), marks=pytest.mark.slow)
                         for part in ((0, 3), (3, 6), (1, 6, 2)))]
SLOW = {("seen", "float32"), ("seen", "float64"), ("put", "float64"), ("rotated", "float64"), ("seen", "bfloat16"),
        ("rotated", "float32"), ("put", "bfloat16")}
PLANTED = [pytest.param(*each, marks=pytest.mark.slow if each in SLOW else ())
           for each in itertools.product(("put", "rotated", "seen"), ("float64", "float32", "bfloat16"))]


@pytest.fixture
def opened(room_of, quickly, recipe_of):
    """opened(name, precision, **options): (recipe, tensors at a generic point, the room, its module `generate`)."""
    def make(name, precision="float64", **options):
        recipe = recipe_of("decoder", model=options, train={"precision": precision})
        rng, tree = np.random.default_rng(3), parameters(recipe.model, CLASSES, (LENGTH,))
        first = initial_values(tree, recipe.seed, master_dtype(recipe))
        tensors = {key: (x + 0.3 * rng.normal(size=x.shape)).astype(x.dtype) for key, x in first.items()}
        return recipe, tensors, room_of(name), importlib.import_module(f"twinscale.{name}.generate")

    with quickly("tfscale"):
        yield make


def written(recipe, tensors, room, module, **asked):
    """(rows of all that fit, what the trainer makes of them, the logits of each step)."""
    seen = []

    def kept(call):
        def called(*given):
            logits, cache = call(*given)
            seen.append(np.asarray(logits))
            return logits, cache

        return called

    def further(*given):
        tokens, logits, cache = ahead(*given)
        seen.extend(logits)
        return tokens, logits, cache

    shape = Shape(CLASSES, (LENGTH,))
    with room.numerics(recipe):
        *single, ahead = module.sampler(recipe, shape, tensors)
        sampler = Sampler(*map(kept, single), further if ahead else None)
        rows = generate(sampler, PROMPTS, Asked(LENGTH - 5, LENGTH, **asked))
        trainer = trained(module.trainer(recipe, shape), tensors, rows, LENGTH, recipe.train.precision)
    return rows, trainer, np.stack(seen, 1)


def forward(recipe, tensors, room, module, rows):
    """The trainer's logits after which each token came, (B, N, V)."""
    ids = np.zeros((len(rows), LENGTH), np.int32)
    for known, row in zip(ids, rows, strict=True):
        known[:len(row.prompt) + len(row.ids)] = [*row.prompt, *row.ids]
    with room.numerics(recipe):
        logits = module.trainer(recipe, Shape(CLASSES, (LENGTH,)))(tensors, ids)
    return np.stack([each[len(row.prompt) - 1:][:len(row.ids)] for each, row in zip(logits, rows, strict=True)])


@pytest.mark.parametrize("options", MODELS, ids=lambda options: "-".join(options) or "plain")
def test_logits_with_a_cache_are_those_of_the_trainer(opened, name, options):
    given = opened(name, **options)
    rows, trainer, logits = written(*given)
    wanted = forward(*given, rows)
    assert logits.dtype == np.float64 and logits.shape == wanted.shape == (2, LENGTH - 5, CLASSES)
    assert np.abs(logits - wanted).max() / np.abs(wanted).max() < BOUND
    assert apart(trainer, rows) <= trainer.allowed < 1e-11
    assert trainer.logprobs[1] == pytest.approx(log_softmax(wanted[1])[np.arange(LENGTH - 5), rows[1].ids], abs=1e-12)


def test_without_a_cache_the_tokens_are_the_same_in_both_rooms(opened):
    """Sampled and greedy, with cuts; and a row's tokens are not the others' matter."""
    for drawing in (Drawing(greedy=True), Drawing(temperature=0.9, top_k=40, top_p=0.9, seed=5)):
        rows, _, logits = written(*opened("tfscale", **OPTIONS), drawing=drawing)
        assert logits.shape[1] == LENGTH - 5  # each token that a call goes on with is the one that is chosen
        found = [[row.ids for row in each] for each in (rows, *(
            written(*opened("jaxscale", **OPTIONS), drawing=drawing, cached=cached)[0] for cached in (True, False)))]
        assert found[0] == found[1] == found[2] and len({*found[0][0], *found[0][1]}) > 3


def test_a_prompt_of_one_token_and_one_token_after_it(opened, name):
    recipe, tensors, room, module = opened(name)
    with room.numerics(recipe):
        sampler = module.sampler(recipe, Shape(CLASSES, (LENGTH,)), tensors)
        rows = generate(sampler, [np.array([9], np.int32)], Asked(1, LENGTH))
    logits = forward(recipe, tensors, room, module, rows)
    assert rows[0].choices[0].logprob == pytest.approx(log_softmax(logits[0, 0])[rows[0].ids[0]], abs=1e-12)


# ---- a sampler that is not the trainer

def shifted(function, at):
    """The function with positions (argument `at`) one too far in steps after the prompt."""
    def call(*given):
        given = list(given)
        new = given[1] if at == 2 else None
        if new is not None and new.shape[1] == 1:
            given[at] = given[at] + 1
        return function(*given)

    return call


@pytest.mark.parametrize(("what", "precision"), PLANTED)
def test_planted_errors_fail_the_check(opened, monkeypatch, name, what, precision):
    """A cache that is written, positions that are rotated, or a mask that ends, one position off."""
    given = opened(name, precision, **OPTIONS, layers=1)
    rows, trainer, _ = written(*given)
    assert apart(trainer, rows) <= trainer.allowed and near_ties(trainer, rows) <= sum(len(row.ids) for row in rows)
    real = getattr(given[3], what)
    monkeypatch.setattr(given[3], what, (lambda positions, slots: real(positions - 1, slots)) if what == "seen" else
                        shifted(real, 2))
    rows, trainer, _ = written(*given)
    assert apart(trainer, rows) > 2 * trainer.allowed
