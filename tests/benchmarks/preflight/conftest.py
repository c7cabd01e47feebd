"""A compiler whose answers a test says."""

import pytest


@pytest.fixture
def compiles(monkeypatch):
    """compiles(module, says): puts a Side in place of a module's, whose row of a recipe is `says(recipe)`; returns the
    list of the recipes that it is asked of."""
    def put(module, says):
        asked = []

        class Side:
            def __init__(self, *_):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def row(self, recipe, topology):
                asked.append(recipe)
                return says(recipe)

        monkeypatch.setattr(module, "Side", Side)
        return asked

    return put
