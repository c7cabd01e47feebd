"""The Dockerfiles name extras that there are, and their context holds all that is installed."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_an_image_asks_for_extras_that_there_are(name):
    text = (ROOT / "docker" / f"{name}.Dockerfile").read_text()
    asked = set(re.findall(r"EXTRAS=([\w-]+)", text))
    assert len(asked) >= 2 and asked <= set(PROJECT["project"]["optional-dependencies"])


def test_the_context_holds_what_is_installed_and_nothing_of_a_users():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    project = PROJECT["project"]
    wanted = {*PROJECT["tool"]["setuptools"]["package-dir"].values(), "pyproject.toml", project["readme"],
              *project["license-files"]}
    assert kept == wanted
