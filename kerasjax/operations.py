"""Every operation of the program on this runtime, by itself; see `common/operations/`."""

from collections.abc import Iterable
from typing import Any

import jax

from twinscale.common.operations.judge import DTYPES
from twinscale.tfscale import operations


def measured(dtypes: Iterable[str] = DTYPES, jit_compile: bool | None = None, added: Iterable[str] = ()
             ) -> list[dict[str, Any]]:
    """As `tfscale.operations.measured`, each dtype as a training of it computes; XLA compiles all."""
    rows = []
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            rows += operations.measured([dtype], True, added)
    return rows
