"""The command line, the one door: each verb loads what it needs, and only then, so that `--help` stays fast."""

import importlib
import os
import shlex
import sys
from typing import Annotated, Literal

import typer

from common.errors import BAD_INPUT, DID_IT, INTERRUPTED, MISSING, NO, BadInput, MissingEnvironment, TwinscaleError

ROOMS = {"keras": "tfscale.room", "jax": "jaxscale.room"}
EXTRAS = {"tensorflow": "cpu", "keras": "cpu", "tf_keras": "cpu", "tensorflow_model_optimization": "cpu",
          "jax": "jax", "jaxlib": "jax", "flax": "jax", "optax": "jax", "orbax": "jax"}

# Flags that are False and not None need no conversion, for which typer would import pydantic: 0.2 s of each --help.
NO_CONVERSION = {"default_map": dict.fromkeys(("help", "install_completion", "show_completion"), False)}

app = typer.Typer(name="twinscale", rich_markup_mode=None, pretty_exceptions_enable=False,
                  context_settings=NO_CONVERSION,
                  help="One recipe, two independent trainers (Keras on TensorFlow, Flax on JAX), one verdict.")
recipe_app = typer.Typer(rich_markup_mode=None, context_settings=NO_CONVERSION, help="Look at recipes.")
app.add_typer(recipe_app, name="recipe")

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's TOML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As train.steps=200; TOML values.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what an earlier command left there.")]
Precision = Annotated[str | None, typer.Option(metavar="P", help="float32, bfloat16 or float64: train.precision=P.")]


@app.command(short_help="Train a recipe with one backend.")
def train(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    backend: Annotated[Literal["keras", "jax"], typer.Option(help="The trainer.")],
    run: Annotated[str, typer.Option(metavar="DIR", help="The run's directory; an unfinished run there is resumed.")],
    overwrite: Overwrite = False,
    precision: Precision = None,
    trace: Annotated[Literal["sketch", "full"] | None, typer.Option(help="Leave what compare-runs reads.")] = None,
    trace_every: Annotated[int, typer.Option(metavar="N", min=0, help="Steps between; 0: train.log_every.")] = 0,
    twin_steps: Annotated[int, typer.Option(metavar="N", min=1, help="Steps of the twin that a trace has.")] = 50,
):
    """Train a recipe with one backend and leave a run directory.

    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/jax
      twinscale train recipes/decoder-stdlib.toml train.steps=200 model.dropout=0.1 --backend keras --run runs/keras
      twinscale train recipes/decoder-stdlib.toml devices.data=4 --backend jax --run runs/four --trace sketch
    """
    from common.recipe_file import load
    from common.run import check_run, place

    described = load(recipe, _overrides(overrides, precision))
    directory = place(run)
    check_run(directory, described, backend, overwrite=overwrite)  # before seconds go into loading a framework
    room = _room(ROOMS[backend])
    from common.loop import Probe, traced_steps

    traced = traced_steps(described, trace_every or described.train.log_every) if trace else ()
    probe = Probe(trace=trace, traced=traced, twin_steps=twin_steps, log_every=1) if trace else None
    room.train(described, run_dir=directory, overwrite=overwrite, probe=probe)
    _next("compare", recipe, *(overrides or []), *_option(precision), "--out", f"build/{described.name}")


@app.command(short_help="Train it with both and say whether they agree.")
def compare(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the runs, the verdict and the report go.")],
    overwrite: Overwrite = False,
    precision: Precision = None,
    place: Annotated[bool, typer.Option("--place", help="Where they disagree, look for the first cause.")] = False,
    swap: Annotated[bool, typer.Option("--swap", help="Run each program under the other's runtime too.")] = False,
    operations: Annotated[bool, typer.Option("--operations", help="Check every operation by itself too.")] = False,
    outcome: Annotated[str | None, typer.Option(metavar="SEEDS=N", help="Train from N seeds, test results.")] = None,
    plant: Annotated[str | None, typer.Option(metavar="BACKEND:MUTANT", hidden=True)] = None,
):
    """Train a recipe with both backends and say whether they agree, and if not, where they part.

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive.
    \b
    Examples:
      twinscale compare recipes/decoder-stdlib.toml --out build/demo
      twinscale compare recipes/mlp-digits.toml --outcome SEEDS=4 --out build/mlp
      twinscale compare recipes/decoder-stdlib.toml train.steps=50 --swap --place --out build/swap
      twinscale compare recipes/decoder-stdlib.toml train.steps=50 --precision bfloat16 --out build/bf16 --overwrite
    """
    from common.recipe_file import load
    from common.run import place as directory

    described = load(recipe, _overrides(overrides, precision))
    seeds = _room("benchmarks.outcome").parse_seeds(outcome) if outcome is not None else None
    code = _room("benchmarks.compare").compare(described, out=directory(out), overwrite=overwrite, plant=plant,
                                               operations=operations, seeds=seeds, place=place, swap=swap)
    if code == NO and not place:
        _next("bisect", out)
    elif (report := directory(out) / "report.html").exists():
        _say(f"next: open {shlex.quote(str(report))}")
    raise typer.Exit(code or DID_IT)


@app.command("compare-runs", short_help="Say whether two runs agree.")
def compare_runs(
    a: Annotated[str, typer.Argument(metavar="A", help="The directory of a run trained with --trace.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another: of any machine, version, backend or mesh.")],
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the verdict and the report go.")],
    overwrite: Overwrite = False,
):
    """Say whether two finished runs agree as far as their traces allow, and if not, where they part.

    Both are read, not trained again: each run's trace holds a twin, by which differences are judged.

    \b
    Exit code: 0 they agree, 1 they do not, 3 inconclusive.
    \b
    Examples:
      twinscale train recipes/decoder-stdlib.toml --backend jax --run runs/one --trace sketch
      twinscale train recipes/decoder-stdlib.toml devices.data=4 devices.virtual=4 --backend jax --run runs/four \\
        --trace sketch
      twinscale compare-runs runs/one runs/four --out build/one-four
    """
    from common.run import place

    code = _room("benchmarks.runs").compare_runs(place(a), place(b), place(out), overwrite=overwrite)
    _say(f"next: open {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Say which operation parts them.")
def bisect(out: Annotated[str, typer.Argument(metavar="DIR", help="The directory of a comparison that disagrees.")]):
    """Look for the first cause of a disagreement: the step, then the operation, forward, backward or in the update.

    Every operation is given the other backend's numbers, so that none is blamed for another's.

    \b
    Exit code: 0 it was found, 3 nothing was.
    \b
    Example:
      twinscale bisect build/demo
    """
    from common.run import place

    code = _room("benchmarks.compare").bisect(place(out))
    _say(f"next: open {shlex.quote(str(place(out) / 'report.html'))}")
    raise typer.Exit(code or DID_IT)


@app.command(short_help="Plant errors and see that they are caught.")
def audit(
    *,
    out: Annotated[str, typer.Option(metavar="DIR", help="Where the trials and audit.json go.")],
    overwrite: Overwrite = False,
    only: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Plant only what has such a name.")] = None,
):
    """Audit the gate itself: plant semantic errors, each to be caught and placed, and harmless changes, none to be.

    \b
    Exit code: 0 all were and none was, 1 otherwise.
    \b
    Examples:
      twinscale audit --out build/audit
      twinscale audit --only '*norm*' --out build/norms
    """
    from common.run import place

    code = _room("benchmarks.audit").audit(place(out), overwrite=overwrite, only=only)
    _next("compare", "recipes/decoder-stdlib.toml", "--out", "build/demo")
    raise typer.Exit(code or DID_IT)


@recipe_app.command("show", short_help="Print a whole recipe with origins.")
def recipe_show(
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="As JSON, with the recipe's hash.")] = False,
):
    """Print the whole recipe, and for each value the file it came from, "override" or "default".

    \b
    Examples:
      twinscale recipe show recipes/decoder-stdlib.toml
      twinscale recipe show recipes/decoder-stdlib.toml model.layers=8 --json
    """
    from common.recipe_file import dumps, resolve

    described, origins = resolve(recipe, overrides or [])
    if json:
        _print_json({"schema_version": 1, "hash": described.hash, "recipe": described.model_dump(mode="json"),
                     "origins": origins})
    else:
        print(dumps(described, origins), end="")
    _next("train", recipe, *(overrides or []), "--backend", "jax", "--run", f"runs/{described.name}-jax")


@recipe_app.command("schema", short_help="Print the JSON schema of recipes.")
def recipe_schema():
    """Print the JSON schema of recipes: every key, its type, bounds, default and meaning.

    \b
    Example:
      twinscale recipe schema > recipe.schema.json
    """
    from common.recipe import Recipe

    _print_json(Recipe.model_json_schema())
    _next("recipe", "show", "recipes/decoder-stdlib.toml")


@app.command(short_help="Say what this machine offers.")
def doctor(json: Annotated[str | None, typer.Option(metavar="PATH", help="Write the same as JSON.")] = None):
    """Say what this machine offers: versions, devices, and what is missing for what.

    \b
    Exit code: 0 a backend can run, 4 none can.
    \b
    Examples:
      twinscale doctor
      twinscale doctor --json doctor.json
    """
    from common.doctor import doctor, show

    report = doctor()
    show(report)
    if json:
        from common.run import write_json

        try:
            write_json(json, report)
        except OSError as error:
            raise BadInput(f"--json {json}: cannot be written: {error.strerror}") from None
    if not any(report["backends"].values()):
        raise MissingEnvironment("no backend can run; pip install 'twinscale[cpu]' or 'twinscale[jax]'")
    _next("compare", "recipes/decoder-stdlib.toml", "--out", "build/demo")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
):
    if version:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            print(installed("twinscale"))
        except PackageNotFoundError:
            print("not installed, run from its source")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments=None):
    """Runs the command line (`sys.argv` by default) and returns its exit code; talks on stderr, one line a failure."""
    try:
        code = app(arguments, prog_name="twinscale", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer has caught the KeyboardInterrupt
            _say("interrupted")
        return code if isinstance(code, int) else DID_IT
    except TwinscaleError as error:
        _say(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        _say(f"{error.name} is not installed; pip install 'twinscale{f'[{extra}]' if extra else ''}'")
        return MISSING
    except BrokenPipeError:  # the reader of our output left; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO
    except typer.TyperException as error:
        _say(f"{error.format_message()}; try --help" if hasattr(error, "format_message") else str(error))
        return BAD_INPUT


def _room(name):
    if name == "tfscale.room":
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return importlib.import_module(name)


def _overrides(overrides, precision):
    return [*(overrides or []), *([f"train.precision={precision}"] if precision is not None else [])]


def _option(precision):
    return ["--precision", precision] if precision is not None else []


def _print_json(value):
    import json

    print(json.dumps(value, indent=2))


def _next(*words):
    _say("next: twinscale " + shlex.join(words))


def _say(text):
    print(f"twinscale: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
