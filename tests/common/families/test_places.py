"""The places of a model."""

import sys
from dataclasses import replace

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families import FAMILIES
from twinscale.common.families.mlp import MLP
from twinscale.common.families.places import places
from twinscale.common.registry import load as load_object


@pytest.mark.parametrize(("calls", "said"), [
    ([("head", "lineer")], 'place head: operation "lineer".*did you mean "linear"'),
    ([("head", "linear", "x")], "place head: reads x, which is not before it"),
    ([("a", "linear"), ("a", "linear")], "place a: is there twice"), ([("a", "linear")], 'has to be "head"'),
    ([], "head")])
def test_places_that_cannot_be_are_refused(monkeypatch, calls, said):
    family = replace(load_object(FAMILIES, "mlp"), places=lambda m, place: [place(*call) for call in calls])
    monkeypatch.setitem(FAMILIES.builtin, "odd", f"{__name__}:ODD")
    monkeypatch.setattr(sys.modules[__name__], "ODD", family, raising=False)
    with pytest.raises(BadInput, match=said):
        places(MLP.model_construct(family="odd"))
