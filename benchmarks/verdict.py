"""What a comparison says: the verdict, its rungs and their checks, as they are made, written and read back; and what is
read of its other files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.numbers import sig
from twinscale.benchmarks.rung_table import RUNGS
from twinscale.common.errors import (
    DID_IT,
    INCONCLUSIVE,
    NO,
    BadInput,
    Disagreement,
    known,
    show_traceback,
    unexpected,
)
from twinscale.common.files.access import read_json, shown
from twinscale.common.files.kinds import Count, Metrics, version
from twinscale.common.files.output import tell
from twinscale.common.files.results import Figure, Real, Result, maybe
from twinscale.common.files.run_files import RunFiles
from twinscale.common.numbers.formats import EPS
from twinscale.common.training.run import Performance

SCHEMA_VERSION = 1
AGAIN = "make it again with --overwrite"
PARTS = {kind.part: name for name, kind in RUNGS.items() if kind.part}  # of a comparison that may be asked for besides
SAID = 5  # checks of a rung that an exception names


class Check(Result):
    """One comparison. Null is what was not finite."""

    what: str
    agrees: bool
    worst: Figure
    bound: Figure
    where: str
    bound_from: str = maybe(description="Where the bound comes from.")
    differing: list[str] = maybe(description="Of what is to be equal bit for bit: the names of what is not.")


class Rung(Result):
    """A level of the ladder: its figures are those of the check nearest to its bound, or furthest above it."""

    name: str
    title: str
    proves: str = maybe()
    agrees: bool
    worst: Figure
    bound: Figure
    bound_from: str
    where: str
    smallest_tolerance: Figure = maybe(description="The smallest bound that would have held.")
    margin: Figure = maybe(description="How many times the bound is what was observed; null where that is 0.")
    checks: list[Check] = Field(description="The worst first.")
    horizon: Count | None = maybe()
    conclusive: bool = maybe(description="False where it is neither equal nor different by what was measured.")
    open: bool = maybe(description="True where a stage's metric is neither equal nor different by what was measured.")


class Curve(Result):
    """Both sides' losses, each under the name of its side, how far they are apart, and how far they may be."""

    steps: list[Real]
    difference: list[Figure]
    envelope: list[Figure]
    bound: list[Figure]
    factor: Real = maybe(description="The bound as so many times the envelope.")
    horizon: Count | None


class Tensor(Result):
    """A tensor near its bound, or above it."""

    step: Count
    tensor: str
    kind: str = maybe()
    difference: Figure
    bound: Figure
    ratio: Figure


class Described(Result):
    """The recipe of a result."""

    name: str
    hash: str
    toml: str


class Made(Result):
    """When, where and by which versions a result was made."""

    date: str
    host: str
    platform: str
    version: str
    commit: str | None
    versions: dict[str, str | None]


class Modules(Result):
    """Two modules, one of each program, and how far apart is what they are given and what they make, relative; null
    where nothing can be said, as where one has an activation within it. Behind the first parting the second module is
    fed with what the first one has: its own inputs are what the program makes of that."""

    a: str
    b: str
    inputs: Figure
    outputs: Figure
    parts: bool = Field(description="Whether the programs first part here.")


class Elsewhere(Result):
    """A place at which two programs part by themselves, and what was measured there, "" where nothing is known."""

    place: str
    cause: str


class Inside(Result):
    """What both programs of a pair do inside, side by side in the order in which the first calls its modules."""

    training: bool = Field(description="Whether they were looked at as they train, or as they are evaluated.")
    place: str = Field(description='Where they first part, in words; "" where they do not.')
    at: str | None = maybe(description="The last module whose gradients differ, where all that is made forward agrees.")
    cause: str = Field(description='What was measured there; "" where nothing is known.')
    coverage: str
    bound: Figure
    modules: list[Modules]
    others: list[Elsewhere] = maybe(description="Where else they part, when the second program is fed with what the "
                                                "first one has there.")


Row = Annotated[list[str], Field(min_length=3, max_length=3)]


class Verdict(Result):
    """verdict.json: whether two backends train the same, or two runs, which then are its `sides`."""

    agrees: bool
    open: bool = maybe(description="Nothing can be told from rounding, or the seeds were too few.")
    rungs: list[Rung]
    horizon: Count | None = Field(description="The first step at which a side has parted from its own twin.")
    sentence: str
    curves: dict[str, Curve]
    null_directions: list[str] = maybe(description="Tensors whose gradient is zero but for rounding.")
    tensors: list[Tensor] = maybe()
    own_float64: dict[str, Any] | None = maybe(description="How far each backend is from its own float64.")
    held_out: dict[str, Metrics | None] = maybe()
    performance: dict[str, Performance] = maybe()
    versions: dict[str, dict[str, str | None]] = maybe()
    devices: dict[str, list[str]] = maybe()
    failed: dict[str, str] = maybe(description="Parts that were asked for besides and failed, with the reason.")
    cause: dict[str, Any] | None = maybe(description="The first operation, update or batch that differs by itself.")
    inside: dict[str, Inside] = maybe(description="By precision, what the modules of two programs do, where the model "
                                                  "is a pair.")
    task: dict[str, Any] | None = maybe(description="What people of the task look at: classes, confusion, reliability, "
                                                    "evaluations, the worst examples; null where no metric is of "
                                                    "classes.")
    swap: dict[str, Any] = maybe(description="Each program under the other's runtime.")
    meshes: dict[str, Any] = maybe(description="One device against several.")
    schema_version: version(SCHEMA_VERSION)
    precision: Literal["float64", "float32", "bfloat16"]
    steps: Count
    recipe: Described
    differences: list[Row] = maybe()
    skipped: list[dict[str, str]] = maybe(description="Rungs that were not climbed, and why.")
    data: dict[str, Any] = maybe()
    assumptions: list[str] = maybe()
    limits: list[str] = maybe()
    plant: str | None = maybe(description="An error that was planted first, as BACKEND:MUTANT.")
    arguments: dict[str, Any] = maybe(description="What the comparison was asked for.")
    made: Made = maybe()
    commands: list[str] = maybe(description="What makes it once more.")
    pending: bool = maybe(description="The comparison has not ended: what was asked for besides is still to come.")
    sides: dict[str, str] = maybe(description="{key: label} of what was compared, where it is not Keras and JAX.")

    @property
    def answer(self) -> Literal["agrees", "fails", "open"]:
        """In a word: "agrees", "fails", or "open" where nothing can be told."""
        if not self.agrees:
            return "fails"
        return "open" if self.open or self.horizon in (0, 1) else "agrees"

    @property
    def exit_code(self) -> int:
        """Of the command that made it; what failed of a part that was asked for besides makes it 1."""
        if PARTS.keys() & (self.failed or {}).keys():
            return NO
        return {"agrees": DID_IT, "fails": NO, "open": INCONCLUSIVE}[self.answer]

    def raise_if_not(self) -> "Verdict":
        """Returns the verdict where all that was asked for agrees. Else, and where nothing can be told, it raises
        Disagreement with the sentence, the checks that failed and the place."""
        if self.exit_code != DID_IT:
            raise Disagreement("\n".join(told(self)), self)
        return self

    def __repr_args__(self) -> list[tuple[str, str]]:
        return [("answer", self.answer), ("precision", self.precision), ("sentence", self.sentence)]

    def _repr_html_(self) -> str:
        from twinscale.benchmarks.report.notebook import verdict_html

        return verdict_html(self)


def told(verdict: Verdict) -> Iterator[str]:
    """A verdict in lines: its sentence, the checks that failed, the place, and what of it failed."""
    yield shown(verdict.sentence)
    if verdict.answer == "open":
        yield "this leaves it open whether they agree"
    yield from failures(verdict.rungs)
    if verdict.cause:
        yield f"first cause: {shown(verdict.cause.get('sentence'))}"
    yield from (f"{shown(what)} failed: {shown(said)}" for what, said in (verdict.failed or {}).items())


def failures(rungs: Sequence[Rung]) -> Iterator[str]:
    """A line for each check that failed, of a rung no more than SAID."""
    for rung in rungs:
        failed = [check for check in rung.checks if not check.agrees]
        for check in failed[:SAID]:
            yield (f"{rung.name} ({rung.title}): {shown(check.what)} at {shown(check.where)}: {sig(check.worst)} "
                   f"against a bound of {sig(check.bound)} ({shown(check.bound_from)})")
        if len(failed) > SAID:
            yield f"{rung.name} ({rung.title}): {len(failed) - SAID} more of its checks"


def read_verdict(out: Path) -> Verdict:
    """What verdict.json in a comparison's directory holds; raises BadInput where it is none that can be reported."""
    return read_json(ComparisonFiles(out).verdict, Verdict, AGAIN)


def is_pending(out: Path) -> bool:
    """Whether the verdict in a directory says that its comparison has not ended."""
    with suppress(BadInput):
        return bool(read_verdict(out).get("pending"))
    return False


@contextmanager
def fenced(verdict: Any, what: str, who: str = "both") -> Iterator[None]:
    """Lets what fails inside take nothing along that is known already: it becomes a line under "failed" of the verdict,
    and one of `who` on stderr."""
    try:
        yield
    except Exception as error:
        show_traceback(error)
        said = str(known(error) or unexpected(error))
        verdict["failed"] = verdict.get("failed", {}) | {what: said}
        tell(who, f"{what} failed: {said}")


def precision_of(check: Check) -> str | None:
    """The precision that a check is of: a word of what it compares; None where it is of none."""
    return next((word for word in check["what"].replace(",", " ").split() if word in EPS), None)


def read_hashes(path: Path) -> dict[str, str]:
    """{what: SHA-256} of a contract.json, which has the recipe's and the data's at least."""
    found = read_json(path, dict[str, str], AGAIN)
    if missing := [key for key in ("recipe", "data") if key not in found]:
        raise BadInput(f"{shown(path)}: {missing[0]}: missing; {AGAIN}")
    return found


def read_digests(run: Path) -> list[str]:
    """The SHA-256 of each batch of a traced run."""
    return read_json(RunFiles(run).batches, list[str], AGAIN)
