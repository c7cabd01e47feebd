"""The operations of our models, tried on inputs and held to how far rounding alone may carry a result.

A room's `operations(dtype)` runs the very layers and functions that its models and its trainer use; `operation_rows`
feeds them, and compares what comes back with `common/operations/references.py`. Where longdouble is no wider than
float64, float64 goes unjudged. `common/operations/catalogue.py` says how bounds are derived.
"""

import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twinscale.common import registry
from twinscale.common.families.parameters import stream
from twinscale.common.operations.catalogue import OPERATIONS, STOCK, optimizer_operation
from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.known import excuses, known_deviations
from twinscale.common.operations.references import DTYPES, FORMATS, Wide

if TYPE_CHECKING:
    from twinscale.common.operations.catalogue import Operation


def expected(dtype: str, added: Iterable[str] = ()) -> list[str]:
    """Names of the operations that a room must offer in a dtype, and those of optimizers that a recipe has `added`."""
    return [name for name in (*OPERATIONS, *added) if dtype != "bfloat16" or operation_of(name).narrow is not None]


def operation_of(name: str) -> "Operation":
    """The Operation that a name is judged as: one of ours, or an optimizer that a recipe has added."""
    name = STOCK.get(name, name)
    return OPERATIONS[name] if name in OPERATIONS else optimizer_operation(name)


@functools.cache
def inputs_of(name: str, dtype: str) -> dict[str, tuple]:
    """{case: tuple of arrays} of an operation, in values of a dtype; the same in every process."""
    operation, f = operation_of(name), FORMATS[dtype]
    with np.errstate(over="ignore", under="ignore"):
        return {case: tuple(rounded(x, f) for x in arrays)
                for case, arrays in operation.cases(f, stream(0, "operations", registry.short(name))).items()}


def wanted_of(name: str, dtype: str, arrays: Sequence[np.ndarray]) -> list:
    """The reference's [(wanted, scale)] for an operation's inputs."""
    with np.errstate(all="ignore"):
        wide = [x.astype(Wide) if x.dtype.kind == "f" else x for x in arrays]
        return operation_of(name).reference(FORMATS[dtype], *wide)


@functools.cache
def all_wanted(name: str, dtype: str) -> dict[str, list]:
    """{case: what is wanted}: computed once for all ways to compile."""
    return {case: wanted_of(name, dtype, arrays) for case, arrays in inputs_of(name, dtype).items()}


def error_of(wanted: Any, found: Any, dtype: str) -> float:
    """The largest error of an operation's outputs, in eps of the dtype relative to their scales; infinite for a shape,
    a number of outputs or a NaN that is not the reference's."""
    f, worst = FORMATS[dtype], 0.0
    if [np.shape(value) for value, _ in wanted] != [np.shape(x) for x in found]:
        return math.inf
    with np.errstate(all="ignore"):
        for (value, scale), x in zip(wanted, found, strict=True):
            error = np.abs(np.asarray(x, Wide) - value) / (f.eps * f.size(scale))
            error = np.where(x == value, 0, np.where(np.isfinite(error), error, np.inf))
            worst = max(worst, float(error.max()))
    return worst


def operation_rows(backend: str, operations: Callable[[str], Mapping[str, Callable]], dtypes: Iterable[str] = DTYPES,
                   how: str = "compiled", device: str = "cpu") -> list[dict[str, Any]]:
    """A backend's operations against their references.

    Args:
      backend: "keras" | "jax". operations: a function of a dtype to {name: function of NumPy arrays to a list of them}.
      dtypes: of DTYPES. how: how they are compiled. device: "cpu" | "gpu" | "tpu".
    Returns: one dict for each operation, dtype and case, of JSON's types: operation, backend, dtype, device, how, case,
      error and bound in eps, bound_from, agrees (within the bound), stock, and known: the reason of the listed
      deviation that excuses a row, or None. An error that is no number is the largest float.
    """
    deviations, found = known_deviations(), []
    for dtype in dtypes:
        if np.finfo(Wide).eps > FORMATS[dtype].eps / 256:
            continue
        for name, function in operations(dtype).items():
            operation = operation_of(name)
            wanted, bound = all_wanted(operation.name, dtype), operation.bound(FORMATS[dtype])
            for case, arrays in inputs_of(operation.name, dtype).items():
                error = min(error_of(wanted[case], function(*arrays), dtype), sys.float_info.max)
                row = {"operation": registry.short(name), "backend": backend, "dtype": dtype, "device": device,
                       "how": how, "case": case, "error": float(error), "bound": float(bound),
                       "bound_from": operation.why, "agrees": bool(error <= bound), "stock": name in STOCK}
                found.append(row | {"known": next((d["reason"] for d in deviations if excuses(d, row)), None)})
    return found
