"""Trains one recipe with Keras and with Flax, and says whether the two train the same.

    import twinscale

    verdict = twinscale.compare("mlp-digits", out="build/mlp", overrides={"train.steps": 40})
    verdict.raise_if_not()

`import twinscale` loads nothing else: each name does, when it is first asked for.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinscale.api import (
        Disagreement,
        LoadedRun,
        TwinscaleError,
        check,
        compare,
        compare_runs,
        load_run,
        load_verdict,
        match,
        open_dataset,
        recipe,
        train,
    )

__all__ = ["Disagreement", "LoadedRun", "TwinscaleError", "check", "compare", "compare_runs", "load_run",
           "load_verdict", "match", "open_dataset", "recipe", "train"]

# In a checkout the rooms lie beside this folder; in an installed package they lie in it.
if (Path(__file__).parents[1] / "pyproject.toml").is_file():
    __path__.append(str(Path(__file__).parents[1]))


def __getattr__(name):
    if name in __all__:
        from twinscale import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
