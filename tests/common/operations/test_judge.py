"""The references of the operations against others: exact fractions, 60-digit decimals, SciPy, finite differences."""

import math

import numpy as np
import pytest

from twinscale.common.operations.inputs import rounded
from twinscale.common.operations.judge import DTYPES, FORMATS, error_of, expected, inputs_of, wanted_of
from twinscale.common.operations.references import Wide

F64 = FORMATS["float64"]
WIDE_EPS = float(np.finfo(Wide).eps)
pytestmark = pytest.mark.skipif(F64.eps / 256 < WIDE_EPS, reason="longdouble is float64 here")


@pytest.mark.parametrize("dtype", DTYPES)
def test_references_pass_their_own_bounds(dtype):
    """Rounded to the dtype, a reference is within half an eps of itself; what it is not, is infinitely far."""
    for name in expected(dtype):
        arrays = next(iter(inputs_of(name, dtype).values()))
        wanted = wanted_of(name, dtype, arrays)
        with np.errstate(under="ignore"):
            found = [rounded(np.asarray(value, np.float64), FORMATS[dtype]) for value, _ in wanted]
        assert error_of(wanted, found, dtype) <= 0.5
        assert error_of(wanted, found[:-1], dtype) == math.inf
        assert error_of(wanted, [*found[:-1], np.full_like(found[-1], np.nan)], dtype) == math.inf
