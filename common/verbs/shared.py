"""What verbs share: options of several, words that are said, rooms that are loaded when a verb needs them."""

import importlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from twinscale.common import process
from twinscale.common.backends import BACKENDS, BOTH
from twinscale.common.errors import BAD_INPUT, INTERRUPTED, NO, BadInput, known, show_traceback, unexpected
from twinscale.common.need import lacking

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe as Described

ROOMS = {name: f"{each.package}.room" for name, each in BACKENDS.items()}

# Flags that are False and not None need no conversion, for which typer would import pydantic: 0.2 s of each --help.
NO_CONVERSION = {"default_map": dict.fromkeys(("help", "install_completion", "show_completion"), False)}

Recipe = Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or one of ours by its name.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="As train.steps=200; TOML values.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Remove what an earlier command left there.")]
Precision = Annotated[str | None, typer.Option(metavar="P", help="float32, bfloat16 or float64: train.precision=P.")]
Runtime = Annotated[Literal["tensorflow", "jax"] | None, typer.Option(help="What Keras runs on; TensorFlow unless "
                                                                           "said.")]
AcceptData = Annotated[bool, typer.Option("--accept-data", help="Go on though the data is no longer what it was.")]


# ---- rooms

def room(name: str) -> ModuleType:
    """A module of a room, imported now; what TensorFlow says at its start is held back."""
    process.keep_memory()
    if name in (ROOMS["keras"], ROOMS["keras-jax"]):  # Keras loads it where it is installed
        process.quieten()
        with process.hushed():
            return importlib.import_module(f"twinscale.{name}")
    return importlib.import_module(f"twinscale.{name}")


def is_installed(backend: str) -> bool:
    """Whether what a backend runs on is there."""
    return lacking(BACKENDS[backend].needs) is None


def first_installed() -> str:
    """The first backend that can run here, "jax" where none can."""
    return next((backend for backend in ("jax", "keras") if is_installed(backend)), "jax")


# ---- options

def backend_of(program: str, runtime: str | None = None) -> str:
    """The id of the backend that --backend and --runtime name; without a runtime it is the program's own. Raises
    BadInput where a program has no runtimes to choose from."""
    runtimes = {each.runtime: name for name, each in BACKENDS.items() if each.program == program}
    if runtime is None:
        return program
    if len(runtimes) < 2:
        raise BadInput(f"--runtime {runtime}: --runtime is for --backend keras; leave it out of --backend {program}")
    return runtimes[runtime]


def backends_of(backend: str | None, runtime: str | None, several: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The ids of the backends that --backend and --runtime name: of a word for `several`, those; none without
    --backend. Raises BadInput where --runtime stands beside none of Keras' alone."""
    if runtime is not None and (backend is None or backend in several):
        raise BadInput(f"--runtime {runtime}: --runtime is for --backend keras" + (
            f"; leave it out of --backend {backend}" if backend else ": add it"))
    if backend is None:
        return ()
    return tuple(several[backend]) if backend in several else (backend_of(backend, runtime),)


def group(words: str, cls: type[TyperGroup] | None = None) -> typer.Typer:
    """The typer of verbs below a verb."""
    return typer.Typer(cls=cls, rich_markup_mode=None, add_completion=False, context_settings=NO_CONVERSION, help=words)


def with_precision(overrides: Sequence[str] | None, precision: str | None) -> list[str]:
    """Overrides of a recipe, with what --precision says."""
    return [*(overrides or []), *([f"train.precision={precision}"] if precision is not None else [])]


def with_weights(overrides: Sequence[str], origin: str | None) -> tuple[list[str], str | None]:
    """(overrides of a recipe, what --from names besides): a directory of the Hugging Face library's is the recipe's
    model.weights, and so is a name on a hub, which is fetched."""
    from twinscale.common.families.weights import is_saved
    from twinscale.common.files.hub import fetched, is_hub

    if origin is not None and is_hub(origin):
        return [*overrides, f"model.weights={json.dumps(fetched(origin, 'model.weights'))}"], None
    if origin is None or not is_saved(origin):
        return [*overrides], origin
    return [*overrides, f"model.weights={json.dumps(os.path.abspath(origin))}"], None


def tell_weights(recipe: "Described") -> None:
    """Says what a recipe's first weights are, where they are a file's, and what is trained beside them, where adapters
    are. Raises BadInput where the file is of another architecture, or adapters are of nothing."""
    from twinscale.common.families import family_of
    from twinscale.common.families.adapters import check_adapters, has_adapters, is_adapter, tree_of
    from twinscale.common.families.adapters import said as said_of_adapters

    weights = getattr(recipe.model, "weights", "")
    if not has_adapters(recipe) and not (weights and family_of(recipe.model).layouts):
        return
    from twinscale.common.data.shapes import data_shape
    from twinscale.common.data.standard import beside_weights
    from twinscale.common.families.weights import config_beside, said

    tree = tree_of(recipe, *data_shape(recipe))
    check_adapters(recipe, tree)
    own = {name: parameter for name, parameter in tree.items() if not is_adapter(name)}
    theirs = beside_weights(config_beside(weights).parent, recipe.data) if weights else ""
    for words in filter(None, (said(recipe.model, own), theirs, said_of_adapters(recipe, tree))):
        say(words)


def precision_words(precision: str | None) -> list[str]:
    """--precision as words."""
    return ["--precision", precision] if precision is not None else []


def given(name: str, value: object, default: object = None) -> list[str]:
    """An option as words, none where it has its default."""
    return [] if value == default else [f"--{name}", str(value)]


def each_given(**options: object) -> list[str]:
    """`given` of several options by name, in their order."""
    return [word for name, value in options.items() for word in given(name, value)]


def flag(name: str, on: bool) -> list[str]:
    """A flag as words, none where it is off."""
    return [f"--{name}"] if on else []


def figures(options: Mapping[str, Sequence[float] | float | None]) -> list[str]:
    """Options of figures as words that are read back as the same figures, one for each of several; none of what was not
    given."""
    several = {name: value if isinstance(value, Sequence) else [value] for name, value in options.items()}
    return [word for name, values in several.items() for value in values if value is not None
            for word in (f"--{name}", repr(value))]


def only(what: str, **options: object) -> None:
    """Raises BadInput for options that `what` does not have."""
    for name, value in options.items():
        if value is not None:
            raise BadInput(f"--{name}: not for {what}")


def of_two(recipe: "Described", what: str, why: str) -> "Described":
    """The recipe; raises BadInput where its model is two programs of one framework, which `what` does not take."""
    from twinscale.common.families.pair import refuse_of_one

    refuse_of_one(recipe.model, what, why)
    return recipe


def counts(name: str, text: str | None) -> list[int] | None:
    """[4, 8] of "4,8", None of nothing."""
    parts = text.split(",") if text is not None else []
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise BadInput(f"--{name} {text}: whole numbers above 0 are wanted, such as 4,8")
    return [int(part) for part in parts] or None


# ---- what is said

def print_json(value: Any) -> None:
    """Prints a value as JSON on stdout."""
    print(json.dumps(value, indent=2))


def say(text: str) -> None:
    """Says a text on stderr, foreign control characters escaped."""
    from twinscale.common.files.access import escaped_lines

    print(f"twinscale: {escaped_lines(text)}", file=sys.stderr)


def suggest(*words: str | None) -> None:
    """Suggests a command, unless a backend that it needs is not installed, or a word of it is None."""
    there = [word for word in words if word is not None]
    named = said(there)
    needs = list(BOTH) if there[0] in ("compare", "bisect", "audit") or "both" in named else named
    if len(there) == len(words) and all(map(is_installed, needs)):
        hint("twinscale " + shlex.join(there))


def said(words: Sequence[str]) -> list[str]:
    """[the backend's id, or "both"] that words of a command line name; [] where they name none."""
    after = {option: words[words.index(option) + 1] for option in ("--backend", "--runtime") if option in words}
    program = after.get("--backend")
    return [backend_of(program, after.get("--runtime")) if program in ("keras", "jax") else program] if program else []


def hint(text: str) -> None:
    """Says what could be next, unless another process of ours reads it."""
    sys.stdout.flush()  # what cannot be written has no next command
    if not os.environ.get(process.CHILD):  # nobody would read it
        say(f"next: {text}")


def shipped() -> str | None:
    """The path of a recipe that came with this project, None where none did."""
    from twinscale.common.recipe.file import RECIPES

    path = RECIPES / "decoder-stdlib.toml"
    if not path.exists():
        return None
    return os.path.relpath(path) if os.getcwd() == str(RECIPES.parent) else str(path)


def failed(error: BaseException) -> int:
    """Says in one line what went wrong, and returns the exit code."""
    process.give_up_output()
    if isinstance(error, BrokenPipeError):  # the reader of our output left
        return NO
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    show_traceback(error)
    if said := known(error):
        say(str(said))
        return said.exit_code
    if isinstance(error, typer.TyperException):
        say(f"{error.format_message()}; try --help" if hasattr(error, "format_message") else str(error))
        return BAD_INPUT
    say(unexpected(error))
    return NO
