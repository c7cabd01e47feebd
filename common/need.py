"""Which packages are needed for what, and what installs them: as the metadata of the distribution `twinscale` says, so
that pyproject.toml is the only list of extras."""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from twinscale.common import backends

BACKENDS = {name: each.needs for name, each in backends.BACKENDS.items()}  # modules without which one does not run
BOTH = (*BACKENDS["keras"], *BACKENDS["jax"])
EIGHT_BITS = ("tensorflow", "tf_keras", "tensorflow_model_optimization")  # for LiteRT of quantised models
COMPRESSING = {"keras": (*BACKENDS["keras"], *EIGHT_BITS[1:]), "jax": BACKENDS["jax"]}
# Packages of modules that are called otherwise; jaxlib is what jax brings.
PACKAGES = {"orbax": "orbax-checkpoint", "sklearn": "scikit-learn", "jaxlib": "jax"}


def lacking(modules: Iterable[str]) -> str | None:
    """The first of some modules that is not installed, or None."""
    return next((module for module in modules if importlib.util.find_spec(module) is None), None)


def missing(module: str, why: str | None = None) -> str:
    """One line on a module that is not installed, and what installs it."""
    return f"{module} is not installed{f', and {why}' if why else ''}; {install(module)}"


def install(name: str) -> str:
    """The command that installs a module or a package: the first extra that asks for it, or all of Twinscale."""
    extra = extra_of(name)
    return f"pip install 'twinscale{f'[{extra}]' if extra else ''}'"


def extra_of(name: str) -> str:
    """The first extra of Twinscale that asks for a module or a package, "" where none does, or all do."""
    top = name.partition(".")[0]
    wanted = normal(PACKAGES.get(top, top))
    return next((extra for package, extra in requirements() if package == wanted), "")


def requirements() -> list[tuple[str, str]]:
    """[(package, the extra that asks for it or "")], in the order of pyproject.toml."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        lines = requires("twinscale") or []
        found = [(line, (re.search(r"extra == ['\"]([^'\"]+)", line) or ("", ""))[1]) for line in lines]
    except PackageNotFoundError:  # run from its source
        import tomllib

        project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
        found = [(line, extra) for extra, lines in (("", project["dependencies"]),
                                                    *project["optional-dependencies"].items()) for line in lines]
    names = [(re.match(r"[\w.-]+", line), extra) for line, extra in found]
    return [(normal(name[0]), extra) for name, extra in names if name]


def normal(package: str) -> str:
    """A package's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()
