"""What a fit leaves for those who ask it later: its parameters in fit.json, and beside it those of its resamples."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from twinscale.benchmarks.laws.forms import FORMS, Form
from twinscale.benchmarks.planning.laws import LAWS, Law, read_law
from twinscale.common.errors import BadInput
from twinscale.common.files.access import exists, place, read_json, remove, shown
from twinscale.common.files.kinds import STRICT, Number, Share, version
from twinscale.common.files.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    from twinscale.benchmarks.laws.fitting import Fit

FILE, RESAMPLES = "fit.json", "resamples.safetensors"
AGAIN = "fit the law again, twinscale fit --out"


class Parameter(TypedDict):
    """A parameter in a fit.json."""

    __pydantic_config__ = STRICT

    name: str
    value: Number


class Named(TypedDict):
    """The law of a fit.json."""

    __pydantic_config__ = STRICT

    name: str


class Rows(TypedDict):
    """What a fit.json says of the rows that were fitted."""

    __pydantic_config__ = STRICT

    spans: dict[str, Annotated[list[Number], Field(min_length=2, max_length=2)]]


class FitFile(TypedDict):
    """What is read of a fit.json."""

    __pydantic_config__ = STRICT

    schema_version: version(1)
    law: Named
    parameters: list[Parameter]
    results: Rows
    level: Share
    warnings: list[str]


class Kept(NamedTuple):
    """A law with what is known of how far it may be trusted."""

    form: Form
    public: np.ndarray  # (P,), as people write them
    boots: np.ndarray | None  # (B, P) of resamples of runs; None where there are none
    residuals: np.ndarray  # (rows,), observed minus predicted logarithms; empty without resamples
    spans: dict[str, list[float]]  # {column: [lowest, highest]} of the rows; empty where nobody has said
    level: float  # that its intervals were asked at
    warnings: tuple[str, ...]  # of the fit
    origin: str  # whose law it is, in words


def keep(folder: Path, found: "Fit") -> None:
    """Writes the resamples of a fit beside its fit.json; of a fit without them removes those of an earlier one."""
    path = folder / RESAMPLES
    if found.boots is not None:
        save_tensors(path, {"parameters": found.public, "resamples": found.boots.public,
                            "residuals": found.boots.residuals})
    elif exists(path):
        remove(path)


def read_fit(name: str, option: str = "FIT") -> Kept:
    """The law of a directory or fit.json that `twinscale fit --out` has left, of a TOML file of `--law`, or of a name
    in `planning.laws.LAWS`. Raises BadInput, which names the `option`, where there is none, or its files are not of
    one fit."""
    if name in LAWS:
        return of_law(LAWS[name], f"literature: {name}, not your runs")
    path = place(name)
    if exists(path / FILE):
        path = path / FILE
    elif not exists(path) or path.is_dir() or path.suffix == ".toml":
        return of_law(read_law(name, option), shown(name))
    found = read_json(path, FitFile, AGAIN)
    called = found["law"]["name"]
    if called not in FORMS:
        raise BadInput(f"{shown(path)}: law.name = {shown(called)}: is none of {', '.join(FORMS)}; {AGAIN}")
    form = FORMS[called]
    values = {row["name"]: row["value"] for row in found["parameters"]}
    values |= {form.parameters[i]: 1.0 for i in form.held}
    if values.keys() != {*form.parameters}:
        raise BadInput(f"{shown(path)}: parameters: {', '.join(form.parameters)} are wanted of {form.name}; {AGAIN}")
    public = np.array([values[key] for key in form.parameters])
    boots, residuals = resamples_of(path.parent / RESAMPLES, public)
    spans = found["results"]["spans"]
    return Kept(form, public, boots, residuals, spans, found["level"], tuple(found["warnings"]), shown(name))


def of_law(law: Law, origin: str) -> Kept:
    """A chinchilla law of five numbers, of which nothing else is known."""
    public = np.array([law.alpha, law.beta, law.a, law.b, law.e])
    return Kept(FORMS["chinchilla"], public, None, np.zeros(0), {}, 0.9, (), origin)


def resamples_of(path: Path, public_P: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """(resamples (B, P) or None, residuals) that lie beside a fit.json; raises BadInput where they are not its own."""
    if not exists(path):
        return None, np.zeros(0)
    found = load_tensors(path)
    shapes = {key: x.shape for key, x in found.items() if x.dtype == np.float64}
    rows = shapes.get("resamples", (0,))
    if (shapes.get("parameters") != public_P.shape or rows[1:] != public_P.shape or not rows[0]
            or len(shapes.get("residuals", ())) != 1 or not found["residuals"].size
            or not np.isfinite(found["residuals"]).all()):
        raise BadInput(f"{shown(path)}: is no file of resamples of this law; {AGAIN}")
    if not np.array_equal(found["parameters"], public_P):
        raise BadInput(f"{shown(path)}: is of another fit than the {FILE} beside it; {AGAIN}")
    return found["resamples"], found["residuals"]
