"""Trains one recipe with Keras and with Flax, and says whether the two train the same."""

from pathlib import Path

# In a checkout the rooms lie beside this folder; in an installed package they lie in it.
if (Path(__file__).parents[1] / "pyproject.toml").is_file():
    __path__.append(str(Path(__file__).parents[1]))
