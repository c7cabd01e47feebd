"""What a finding of `benchmarks.rungs.placing` says."""

from typing import Any

from twinscale.benchmarks.numbers import sig


def cause(operation: str, where: str, phase: str, step: int = 0, apart: float | None = None, bound: float | None = None,
          name: str | None = None) -> dict[str, Any]:
    """One finding: the class of operation, its place, when, and by how much a tensor of its results is off."""
    found = {"operation": operation, "where": where, "phase": phase, "step": step, "tensor": name or where,
             "difference": apart, "bound": bound}
    size = "" if apart is None else f": {found['tensor']} differs by {sig(apart)}, {sig(bound)} is rounding"
    return found | {"sentence": f"step {step}, {phase}: {operation} at {where}{size}"}
