"""Figures, which cost more than all else of a page, are drawn once for equal data."""

import json

import pytest

from benchmarks import plots

DRAWN, render = {}, plots._render


def _once(name, draw, width, args):
    key = json.dumps([name, draw.__module__, draw.__qualname__, width, args], default=repr)
    if key not in DRAWN:
        DRAWN[key] = render(name, draw, width, args)
    return DRAWN[key]


@pytest.fixture(scope="session", autouse=True)
def drawn_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_render", _once)
        yield


@pytest.fixture
def drawn_anew(monkeypatch, drawn_once):
    """For what is about the drawing itself: every figure is drawn, whatever was drawn before."""
    monkeypatch.setattr(plots, "_render", render)
