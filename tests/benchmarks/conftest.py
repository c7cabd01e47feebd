"""What all of the pages' tests share."""

import pytest

from twinscale.benchmarks.report import plots


@pytest.fixture
def drawn_anew(monkeypatch):
    """For what is about the drawing itself: every figure is drawn, whatever was drawn before."""
    monkeypatch.setattr(plots, "DRAWN", {})
