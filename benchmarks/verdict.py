"""What is read back of a comparison: verdict.json, which a bisection completes and reports anew, and its files."""

from contextlib import contextmanager, suppress
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput, known, show_traceback, unexpected
from twinscale.common.files import read_json, shown
from twinscale.common.kinds import STRICT, Count, Metrics, Number, version
from twinscale.common.output import tell
from twinscale.common.run import Performance

SCHEMA_VERSION = 1
AGAIN = "make it again with --overwrite"


class Check(TypedDict):
    """Null is what was not finite."""

    __pydantic_config__ = STRICT

    what: str
    agrees: bool
    worst: Number | None
    bound: Number | None
    where: str


class Rung(TypedDict):
    __pydantic_config__ = STRICT

    name: str
    title: str
    agrees: bool
    worst: Number | None
    bound: Number | None
    bound_from: str
    where: str
    checks: list[Check]


class Curve(TypedDict):
    __pydantic_config__ = STRICT

    steps: list[Number]
    difference: list[Number | None]
    envelope: list[Number | None]
    bound: list[Number | None]
    horizon: Count | None


class Tensor(TypedDict):
    __pydantic_config__ = STRICT

    step: Count
    tensor: str
    difference: Number | None
    bound: Number | None
    ratio: Number | None


class Described(TypedDict):
    __pydantic_config__ = STRICT

    name: str
    hash: str
    toml: str


Row = Annotated[list[str], Field(min_length=3, max_length=3)]


class Verdict(TypedDict):
    """verdict.json of Keras and JAX."""

    __pydantic_config__ = STRICT

    schema_version: version(SCHEMA_VERSION)
    agrees: bool
    sentence: str
    plant: str | None
    precision: Literal["float64", "float32", "bfloat16"]
    steps: Count
    horizon: Count | None
    recipe: Described
    rungs: list[Rung]
    curves: dict[str, Curve]
    tensors: NotRequired[list[Tensor]]
    held_out: NotRequired[dict[str, Metrics | None]]
    performance: NotRequired[dict[str, Performance]]
    versions: NotRequired[dict[str, dict[str, str | None]]]
    devices: NotRequired[dict[str, list[str]]]
    data: NotRequired[dict[str, Any]]
    differences: NotRequired[list[Row]]
    skipped: NotRequired[list[dict[str, str]]]
    assumptions: NotRequired[list[str]]
    limits: NotRequired[list[str]]
    commands: NotRequired[list[str]]
    null_directions: NotRequired[list[str]]
    failed: NotRequired[dict[str, str]]
    pending: NotRequired[bool]


def read_verdict(out):
    """What verdict.json in a comparison's directory holds; raises BadInput where it is none that can be reported."""
    return read_json(out / "verdict.json", Verdict, AGAIN)


def is_pending(out):
    """Whether the verdict in a directory says that its comparison has not ended."""
    with suppress(BadInput):
        return bool(read_verdict(out).get("pending"))
    return False


@contextmanager
def fenced(verdict, what):
    """Lets what fails inside take nothing along that is known already: it becomes a line under "failed" of the verdict,
    and one on stderr."""
    try:
        yield
    except Exception as error:
        show_traceback(error)
        said = str(known(error) or unexpected(error))
        verdict["failed"] = verdict.get("failed", {}) | {what: said}
        tell("both", f"{what} failed: {said}")


def read_hashes(path):
    """{what: SHA-256} of a contract.json, which has the recipe's and the data's at least."""
    found = read_json(path, dict[str, str], AGAIN)
    if missing := [key for key in ("recipe", "data") if key not in found]:
        raise BadInput(f"{shown(path)}: {missing[0]}: missing; {AGAIN}")
    return found


def read_digests(run):
    """The SHA-256 of each batch of a traced run."""
    return read_json(run / "trace" / "batches.json", list[str], AGAIN)
