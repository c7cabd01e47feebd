"""What the TPU's compiler says of a program that does not fit, as figures."""

import re
from typing import Any

OVER = (r"(?:HLO temporaries|program) \((?P<used>[\d.]+)(?P<unit>[KMGT]?)\) exceeds available HBM \((?P<of>[\d.]+)",
        r"Used (?P<used>[\d.]+)(?P<unit>[KMGT]?) of (?P<of>[\d.]+)[KMGT]? hbm")
# The difference of those two, to more digits.
EXCEEDED = r"Exceeded hbm capacity by (?P<by>[\d.]+)(?P<unit>[KMGT]?)"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def refusal(said: str) -> dict[str, Any]:
    """{"error", "over_bytes", "capacity_bytes"} of the compiler's words; the figures are None but for want of HBM."""
    found = next(filter(None, (re.search(pattern, said) for pattern in OVER)), None)
    if found is None:
        return {"error": said.splitlines()[0], "over_bytes": None, "capacity_bytes": None}
    over, capacity = round(float(found["used"]) * UNITS[found["unit"]]), round(float(found["of"]) * 2**30)
    if more := re.search(EXCEEDED, said):
        over = capacity + round(float(more["by"]) * UNITS[more["unit"]])
    return {"error": said.splitlines()[0], "over_bytes": over, "capacity_bytes": capacity}
