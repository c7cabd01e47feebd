"""check.json: the steps of a check of a machine's device, each with what came of it."""

from typing import Any, Literal

from pydantic import Field

from twinscale.benchmarks.verdict import Made
from twinscale.common.errors import DID_IT, INCONCLUSIVE, MISSING, NO
from twinscale.common.files.kinds import Backend, Count, version
from twinscale.common.files.results import Real, Result

SCHEMA_VERSION = 1
WORST = (NO, MISSING, INCONCLUSIVE)  # exit codes, the one that says most first


class Ended(Result):
    """A step that has ended, as its own file in steps/ has it too."""

    name: str
    title: str
    backends: list[Backend] = Field(description="What it asks of the machine.")
    state: Literal["holds", "no", "open", "skipped", "failed"]
    exit_code: Count = Field(description="0 where it holds or is skipped; else what it adds to the command's.")
    said: str = Field(description="What was seen, or why it was skipped or failed.")
    files: list[str] = Field(description="What it has left, below the check's directory.")
    figures: dict[str, Any]
    seconds: Real


class Checked(Result):
    """check.json."""

    schema_version: version(SCHEMA_VERSION)
    sentence: str
    agrees: bool | None = Field(description="Null where a step is open, failed for what the machine lacks, or none "
                                            "was taken.")
    rehearsed: bool = Field(description="Everything was on the CPU.")
    environment: dict[str, Any] = Field(description="What `twinscale doctor --json` prints.")
    gpus: list[dict[str, str]] = Field(description="As nvidia-smi has them.")
    recipes: dict[str, dict[str, str]] = Field(description="{use: name and hash} of what was trained.")
    counts: dict[str, Count] = Field(description="{state: steps}.")
    steps: list[Ended] = Field(description="In their order.")
    seconds: Real
    made: Made
    commands: list[str]

    @property
    def exit_code(self) -> int:
        """Of the command that made it."""
        return code_of(self.steps)


def code_of(steps: list[Ended]) -> int:
    """The exit code of steps: 1 where one says no, 4 where the machine lacks what one needs, or no step but that of the
    environment was taken, 3 where one is open, else 0."""
    codes = {step.exit_code for step in steps}
    worst = next((code for code in WORST if code in codes), DID_IT)
    taken = [step for step in steps if step.state != "skipped" and step.backends]
    return worst if taken or worst else MISSING
