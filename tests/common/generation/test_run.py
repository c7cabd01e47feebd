"""A run's decoder, with a room and a sampler that are functions."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.data.tokenizers import byte_tokenizer
from twinscale.common.errors import BadInput
from twinscale.common.export.formats import Shape
from twinscale.common.generation import run
from twinscale.common.generation.loop import Sampler
from twinscale.common.generation.run import Opened, Wanted, check_decoder, exit_code, lines, streamed, write
from twinscale.common.generation.sample import Drawing
from twinscale.common.recipe.schema import Recipe

RECIPE = Recipe.model_validate({"name": "x", "data": {"source": "stdlib", "sequence": 32},
                                "model": {"family": "decoder"}, "train": {"precision": "float64"}})
TABLE = np.random.default_rng(0).normal(size=(257, 257))
ROOM = SimpleNamespace(backend="jax", numerics=lambda recipe: nullcontext())


def generator(off=0.0):
    """A module whose sampler's logits are `off` by so much beside its trainer's, where it has a cache."""
    def start(ids, lengths, slots):
        return TABLE[ids[np.arange(len(ids)), lengths - 1]], None

    def step(ids, positions, cache):
        return TABLE[ids] * (1 + off), None

    return SimpleNamespace(sampler=lambda *given: Sampler(start, step),
                           trainer=lambda *given: lambda tensors, ids: tensors["head.kernel"][ids])


@pytest.fixture(autouse=True)
def opened(monkeypatch):
    monkeypatch.setattr(run, "open_run", lambda *given: Opened(RECIPE, Shape(257, (32,)), {"head.kernel": TABLE},
                                                               byte_tokenizer(), 7))


def test_text_is_said_and_held_to_the_trainer_both_ways(tmp_path):
    said = []
    wanted = Wanted(("ab", "c"), tokens=9, drawing=Drawing(seed=3), check=True)
    found = write(ROOM, generator(), tmp_path, wanted, say=said.append)
    assert [row["prompt"] + row["text"] for row in found["rows"]] == "".join(said).rstrip("\n").split("\n\n")
    assert [held["cached"] for held in found["trainer"]] == [True, False] and exit_code(found) == 0
    assert found["tokens"] == sum(len(row["ids"]) for row in found["rows"]) and len(lines(found)) == 4


def test_a_sampler_that_is_not_the_trainer_is_told(tmp_path):
    found = write(ROOM, generator(1e-6), tmp_path, Wanted(("ab",), tokens=9, check=True))
    assert [held["holds"] for held in found["trainer"]] == [False, True] and exit_code(found) == 1
    assert "with cache" in lines(found)[2] and lines(found)[2].endswith("does not hold")


def test_as_many_tokens_as_fit_unless_more_are_asked_for(tmp_path):
    assert write(ROOM, generator(), tmp_path, Wanted(("a" * 30,)))["tokens"] <= 2
    with pytest.raises(BadInput, match="take --tokens 2 at most"):
        write(ROOM, generator(), tmp_path, Wanted(("a" * 30,), tokens=3))


def test_other_models_are_refused(tmp_path):
    mlp = Recipe.model_validate({"name": "x", "data": {"source": "digits"}, "model": {"family": "mlp"}})
    with pytest.raises(BadInput, match="only decoders"):
        check_decoder(tmp_path, mlp)
    assert check_decoder(tmp_path, RECIPE) is None


def test_what_a_model_says_moves_nothing_on_the_terminal(capsys):
    streamed("a\tb\n\x1b[2J")
    assert capsys.readouterr().out == "a\tb\n\\x1b[2J"
