"""What a missing package is called, and what installs it: the metadata says so, and no list of ours."""

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from twinscale.common import errors, need
from twinscale.common.errors import MissingEnvironment, known
from twinscale.common.machine.doctor import USES

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name, extra", [
    ("tensorflow", "cpu"), ("tf_keras", "cpu"), ("tensorflow_model_optimization", "cpu"), ("jax", "jax"),
    ("jaxlib", "jax"), ("flax.nnx", "jax"), ("orbax.checkpoint", "jax"), ("libtpu", "jax-tpu"), ("scipy", ""),
    ("sklearn", ""), ("etils", ""), ("nobody_asks_for_this", "")])
@pytest.mark.parametrize("installed", [True, False])
def test_the_first_extra_that_asks_for_a_package_installs_it(name, extra, installed, monkeypatch):
    def gone(name):
        raise importlib.metadata.PackageNotFoundError(name)

    if not installed:  # and pyproject.toml is read
        monkeypatch.setattr("importlib.metadata.requires", gone)
    assert need.extra_of(name) == extra


def test_another_extra_is_found_by_no_change_of_ours(monkeypatch):
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["numpy", 'other_one>=2; extra == "more"'])
    assert need.extra_of("other.one") == need.extra_of("tensorflow") == ""
    assert need.extra_of("other_one") == "more" and need.missing("other_one") == (
        "other_one is not installed; pip install 'twinscale[more]'")


def test_the_first_that_is_missing_is_named_with_what_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("keras", "flax") else name)
    with pytest.raises(MissingEnvironment) as caught:
        errors.need(*need.BOTH, why="a comparison needs both backends")
    assert str(caught.value) == ("keras is not installed, and a comparison needs both backends; pip install "
                                 "'twinscale[cpu]'")
    errors.need("tensorflow", "jax")
    assert str(known(ModuleNotFoundError("", name="keras"))) == need.missing("keras")


def test_the_doctor_knows_every_package_that_an_extra_of_a_backend_asks_for():
    extras = PROJECT["optional-dependencies"]
    asked = {need.normal(line.split(">")[0].split("[")[0]) for line in (
        *extras["cpu"], *extras["jax"], *extras["jax-tpu"])} - {"twinscale"}
    assert len(asked) > 7 and asked <= {need.normal(name) for name in USES}
