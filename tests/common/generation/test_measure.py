"""How long tokens take, of a sampler that takes none."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.generation.loop import Sampler
from twinscale.common.generation.measure import PROMPT, measure_generation

RECIPE = {"name": "x", "data": {"source": "stdlib", "sequence": 32}, "train": {"precision": "float64"},
          "model": {"family": "decoder", "layers": 1, "width": 8, "heads": 2}}


@pytest.fixture
def rooms(monkeypatch):
    """(a room, its module `generate`, what that was asked)."""
    monkeypatch.setattr("twinscale.common.generation.measure.SAMPLERS", {})
    asked, inside = [], []

    @contextmanager
    def numerics(recipe):
        inside.append(recipe)
        yield
        inside.pop()

    def sampler(recipe, shape, tensors):
        assert inside == [recipe] and set(map(str, {x.dtype for x in tensors.values()})) == {"float64"}
        asked.append("sampler")
        logits = np.zeros((2, shape.classes))

        def start(ids, lengths, slots):
            asked.append(("start", ids.shape, lengths.tolist()))
            return logits, None

        def step(ids, positions, cache):
            asked.append(("step", positions.tolist()))
            return logits, None

        return Sampler(start, step)

    return SimpleNamespace(numerics=numerics), SimpleNamespace(sampler=sampler), asked


def test_all_tokens_are_asked_for_in_either_way_and_what_is_compiled_is_kept(rooms):
    room, generator, asked = rooms
    assert measure_generation(room, generator, RECIPE, 3, True, rows=2) > 0
    assert asked == ["sampler", ("start", (2, 16), [PROMPT] * 2), ("step", [16, 16]), ("step", [17, 17])]
    assert measure_generation(room, generator, RECIPE, 3, False, rows=2) > 0
    assert asked[4:] == [("start", (2, 16), [16] * 2), ("start", (2, 32), [17] * 2), ("start", (2, 32), [18] * 2)]


def test_more_than_fit_are_refused(rooms):
    with pytest.raises(BadInput, match="--tokens 17: .*take --tokens 16 at most"):
        measure_generation(*rooms[:2], RECIPE, 17, True)
