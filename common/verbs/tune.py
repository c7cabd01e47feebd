"""`twinscale tune`: searches a space of recipes."""

from typing import Annotated, Literal

import typer

from twinscale.common.errors import DID_IT
from twinscale.common.verbs import shared


def tune(
    recipe: shared.Recipe,
    overrides: shared.Overrides = None,
    *,
    space: Annotated[str, typer.Option(metavar="SPACE", help="A TOML file: which keys vary and how.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Where trials, report and best.toml go.")],
    backend: Annotated[Literal["jax", "keras"] | None, typer.Option(help="The trainer; one that is installed.")] = None,
    runtime: shared.Runtime = None,
    trials: Annotated[int | None, typer.Option(metavar="N", min=1, help="In all, those of earlier searches there too; "
                                                                        "without it what SPACE says.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=64, help="Trials at once, each in a process.")] = 1,
    storage: Annotated[str | None, typer.Option(metavar="URL", help="Optuna's database; else SQLite in DIR.")] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Train on a cluster of Ray.")] = None,
    overwrite: shared.Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print tune.json in place of words.")] = False,
    precision: shared.Precision = None,
) -> None:
    """Search for the best recipe of a space, a training a trial, with Optuna.

    Each trial is a run directory that `train` could have made. One that is worse than most after as many updates may be
    given up; a recipe that is refused is a failed trial with its reason. A search that was cut short goes on with the
    same command. The best recipe is DIR/best.toml.

    \b
    Exit code: 0 it is searched, 1 no trial came to its end.
    \b
    Examples:
      twinscale tune recipes/mlp-digits.toml --space space.toml --trials 12 --out build/tuned
      twinscale tune recipes/mlp-digits.toml train.eval_every=20 --space space.toml --backend keras --out build/keras
      twinscale tune recipes/mlp-digits.toml --space space.toml --backend keras --runtime jax --out build/keras-jax
      twinscale tune recipes/mlp-digits.toml --space space.toml --jobs 2 --out build/two
    """
    from twinscale.common.backends import options_of
    from twinscale.common.files.access import place

    named = shared.backends_of(backend, runtime, {})
    used = named[0] if named else shared.first_installed()
    code = shared.room("benchmarks.tuning.tune").tune(
        source=recipe, overrides=tuple(shared.with_precision(overrides, precision)), space=place(space), out=place(out),
        backend=used, trials=trials, jobs=jobs, storage=storage, ray=ray, overwrite=overwrite, as_json=json)
    if code == DID_IT:
        shared.suggest("train", f"{out}/best.toml", *options_of(used), "--run", "runs/best")
    raise typer.Exit(code or DID_IT)
