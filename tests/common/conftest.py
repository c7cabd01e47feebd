"""A folder with a recipe to work in, and functions in the place of rooms."""

import importlib
import os
from types import SimpleNamespace

import pytest

from twinscale.common.machine import doctor

RECIPE = 'name = "x"\n[model]\nfamily = "decoder"\n'


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("twinscale.common.recipe.file.RECIPES", tmp_path)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture
def room(monkeypatch):
    """Puts functions in the place of rooms; returns the calls they got."""
    calls, real = [], importlib.import_module

    def install(name, outcome=None):
        def call(recipe, **options):
            calls.append((name, recipe, options, os.environ.get("KERAS_BACKEND")))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        def find(wanted, *rest):
            return SimpleNamespace(train=call, compare=call) if wanted == f"twinscale.{name}" else real(wanted, *rest)
        monkeypatch.setattr(importlib, "import_module", find)
        return calls
    return install


@pytest.fixture
def lines(capsys):
    """() to (stdout, the lines of stderr), in which there is no traceback."""
    def read():
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return out, err.splitlines()
    return read


@pytest.fixture
def quick(monkeypatch):
    """Frameworks that answer without being loaded."""
    monkeypatch.setattr(doctor, "ASK", {name: "print('hello'); print('[{\"name\": \"d:0\", \"kind\": \"CPU\"}]')"
                                        for name in doctor.ASK})


@pytest.fixture
def absent(monkeypatch):
    def take(*names):
        real = doctor._version
        monkeypatch.setattr(doctor, "_version", lambda name: None if name in names else real(name))
        monkeypatch.setattr(doctor.sys, "prefix", "/nowhere")  # beside which libtpu may lie
    return take
