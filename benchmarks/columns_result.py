"""What a comparison of three columns leaves as JSON, as it makes it and as it is read back."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from twinscale.benchmarks.comparison_files import ComparisonFiles
from twinscale.benchmarks.sides import differ_in_one
from twinscale.benchmarks.verdict import AGAIN, Described, Made, Verdict, read_verdict
from twinscale.common.backends import BOTH
from twinscale.common.errors import DID_IT, INCONCLUSIVE, NO, BadInput, Disagreement
from twinscale.common.files.access import read_json, shown
from twinscale.common.files.kinds import Count, version
from twinscale.common.files.results import Figure, Result, maybe

SCHEMA_VERSION = 1
NAME = "name a comparison's directory"
Answer = Literal["agrees", "fails", "open"]


class Step(Result):
    """A rung of a pair's ladder, which the pair's own verdict.json has with its checks."""

    name: str
    title: str
    answer: Answer
    worst: Figure
    bound: Figure
    where: str


class Losses(Result):
    """How far the losses of two columns are apart, over all steps of both logs. Null is what was not finite."""

    steps: Count
    absolute: Figure = Field(description="The largest difference.")
    relative: Figure = Field(description="The largest difference as a share of the larger loss.")
    step: Count = Field(description="Where it is the largest share.")


class Pair(Result):
    """Two of the columns, and what their comparison says."""

    columns: list[str] = Field(min_length=2, max_length=2)
    directory: str = Field(description="Where their verdict.json and report are.")
    answer: Answer
    exit_code: Count
    sentence: str
    rungs: list[Step]
    losses: dict[str, Losses] = Field(description="By precision.")


class Laid(Result):
    """The rung above the pairs: on what a disagreement is laid."""

    name: str
    title: str
    proves: str
    agrees: bool
    conclusive: bool = Field(description="False where a pair's answer is open.")
    blame: Literal["none", "program", "runtime", "one column", "several"] | None = Field(
        description="Null where it is not conclusive.")
    by: str | None = Field(description="The column that parts from both others, where one does.")
    at: Step | None = Field(description="The first rung at which it does.")
    sentence: str


class Columns(Result):
    """columns.json: whether three columns, two programs on two runtimes, train the same."""

    schema_version: version(SCHEMA_VERSION)
    columns: dict[str, str] = Field(description="{id: title}, in the order of the pairs.")
    agrees: bool
    sentence: str
    rung: Laid
    pairs: list[Pair]
    precision: Literal["float64", "float32", "bfloat16"]
    steps: Count
    recipe: Described
    limits: list[str]
    plant: str | None = maybe(description="An error that was planted first.")
    arguments: dict[str, Any] = Field(description="What the comparison was asked for.")
    made: Made
    commands: list[str]

    @property
    def exit_code(self) -> int:
        """Of the command that made it: 1 where a pair's is, else 3 where a pair's is."""
        codes = {pair.exit_code for pair in self.pairs}
        return next((code for code in (NO, INCONCLUSIVE) if code in codes), DID_IT)

    def raise_if_not(self) -> "Columns":
        """Returns itself where all pairs agree; else, and where one stays open, it raises Disagreement."""
        if self.exit_code != DID_IT:
            raise Disagreement("\n".join([self.sentence, *(pair.sentence for pair in self.pairs)]), self)
        return self

    def __repr_args__(self) -> list[tuple[str, Any]]:
        return [("agrees", self.agrees), ("blame", self.rung.blame), ("precision", self.precision),
                ("sentence", self.sentence)]


def read_columns(out: Path) -> Columns:
    """What columns.json in a comparison's directory holds; raises BadInput where it is none that can be reported."""
    return read_json(ComparisonFiles(out).columns, Columns, AGAIN)


def parted_in(out: Path) -> str:
    """The directory in `out` of the pair to look into: of those that fail one that one thing alone parts, if there is;
    of any where none fails or nothing is known."""
    with suppress(BadInput):
        return min(read_columns(out).pairs, key=lambda pair: (pair.answer != "fails", pair.answer == "agrees",
                                                              not differ_in_one(tuple(pair.columns)))).directory
    return ComparisonFiles(out).pair(BOTH).relative_to(out).as_posix()


def read_comparison(path: Path) -> Verdict | Columns:
    """The Verdict in a comparison's directory, or of three columns the Columns; or that in a file of either. Raises
    BadInput, one line, where there is none, or a comparison of columns has not ended."""
    if not path.is_dir():
        kind = Columns if "pairs" in read_json(path, dict[str, Any], NAME) else Verdict
        return read_json(path, kind, NAME)
    files = ComparisonFiles(path)
    if files.verdict.is_file():
        return read_verdict(path)
    if files.columns.is_file():
        return read_columns(path)
    if files.pairs.is_dir():
        raise BadInput(f"{shown(path)}: its comparison of columns has not ended, and has no {files.columns.name}; the "
                       "command that began it makes one")
    return read_verdict(path)
