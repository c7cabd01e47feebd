"""The rungs of the ladder, each described once: what it is called, what it usually means that it fails, and why it may
not have been climbed. What a rung computes stands in a module of its own; `compare` and `runs` climb it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Described:
    """What is said of a rung, whatever it found."""

    title: str
    failing: str  # what it usually means that it fails while those above it hold
    left_out: str = ""  # why a comparison may not have it; "": it always has
    between_runs: str = ""  # the same of a comparison of two runs
    part: str = ""  # of a comparison that is asked for besides, by its option
    placed: bool = True  # whether an operation, an update or a batch of the first steps may explain it
    audited: bool = False  # whether an audit climbs it


RUNGS = {
    "P0": Described(
        "contract",
        "The sides were not given the same. Compare the data and its order, the seeds, the first weights and the two "
        "recipes. What the other rungs say counts only when this one holds.",
        audited=True),
    "P1": Described(
        "operations",
        "One operation is further from its reference than rounding allows: a fast approximation, a constant or a sum "
        "in fewer digits.",
        between_runs="operations are measured by `twinscale compare --operations`",
        part="operations"),
    "P2": Described(
        "gradient",
        "The model or the loss: an epsilon, an activation, a mask, the order of axes, what a mean divides by, the sum "
        "over micro-batches. In the working precision alone: an operation computes in fewer digits.",
        audited=True),
    "P3": Described(
        "optimizer",
        "The optimizer: where its epsilon stands, bias correction, what is decayed, when gradients are clipped. Start "
        "at the first tensor that differs after one update.",
        between_runs="needs both optimizers at hand: `twinscale compare`",
        audited=True),
    "P4": Described(
        "semantics",
        "What shows only over steps: a schedule that is one step late, random bits, state that is carried along "
        "(running statistics, averaged weights, the place in the data), or the evaluation.",
        between_runs="the runs are not in float64",
        audited=True),
    "P5": Described(
        "numerics",
        "Where P4 holds, the meaning is right, and one operation rounds more on one side: a sum in bfloat16, a cast, "
        "a fast mode of matrix products.",
        left_out="in float64 it is P4",
        between_runs="judged as P4 or P6",
        audited=True),
    "P6": Described(
        "sharding",
        "Sharding: a mean of means over devices, a gradient summed twice or not at all, statistics or random bits of "
        "one device only, rows dealt out differently.",
        left_out="`--meshes` trains each backend on several devices and hosts",
        between_runs="the same number of devices",
        part="meshes",
        placed=False),
    "P7": Described(
        "outcome",
        "The final metrics differ by more than the recipe's margin. If all rungs above hold, rounding or unlucky "
        "seeds are left: an open rung asks for more seeds.",
        left_out="one seed; `--outcome SEEDS=4` trains from several",
        between_runs="one run each",
        part="outcome",
        placed=False),
    "P8": Described(
        "audit",
        "The gate itself is at fault: an error passed unseen or was placed wrongly, or a harmless change was flagged. "
        "Mend it before you trust a verdict.",
        left_out="`twinscale audit` plants errors",
        between_runs="`twinscale audit` plants errors"),
}


def title_of(name: str | None) -> str:
    """The title of a rung; "" of a name that is none of ours."""
    return RUNGS[name].title if name in RUNGS else ""


def is_placed(name: str | None) -> bool:
    """Whether something of the first steps may explain that a rung fails; so it may where the name is none of ours."""
    return name not in RUNGS or RUNGS[name].placed


def not_climbed(rungs: Sequence[Any], between_runs: bool = False) -> list[dict[str, str]]:
    """A row {"name", "why"} of each rung that `rungs` lacks, of a comparison or of one `between_runs`."""
    whys = {name: kind.between_runs if between_runs else kind.left_out for name, kind in RUNGS.items()}
    climbed = {rung["name"] for rung in rungs}
    return [{"name": name, "why": why} for name, why in whys.items() if why and name not in climbed]
