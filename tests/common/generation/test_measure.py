"""Seconds of a sampler: one is made for a recipe, and both ways are asked of it."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.generation.loop import Sampler
from twinscale.common.generation.measure import SAMPLERS, measure_generation

RECIPE = {"name": "measured", "data": {"source": "stdlib", "sequence": 32},
          "model": {"family": "decoder", "layers": 1, "width": 8, "heads": 2}}


def test_both_ways_are_measured_on_one_sampler(monkeypatch):
    calls, made = [], []
    logits = np.zeros((1, 257))

    def sampler(recipe, shape, tensors):
        made.append(tensors["embedding.embedding"].shape)
        return Sampler(lambda *given: calls.append("start") or (logits, None),
                       lambda *given: calls.append("step") or (logits, None))

    room, module = SimpleNamespace(numerics=lambda recipe: nullcontext()), SimpleNamespace(sampler=sampler)
    assert measure_generation(room, module, RECIPE, 3, True) > 0 and calls == ["start", "step", "step"]
    calls.clear()
    assert measure_generation(room, module, RECIPE, 3, False) > 0 and calls == ["start"] * 3
    assert made == [(257, 8)]
    SAMPLERS.clear()
    with pytest.raises(BadInput, match="--tokens 17"):
        measure_generation(room, module, RECIPE, 17, True)
