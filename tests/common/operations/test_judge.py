"""The references of the operations against others: exact fractions, 60-digit decimals, SciPy, finite differences."""

import math

import numpy as np
import pytest

from twinscale.common.numbers.formats import walk
from twinscale.common.operations.catalogue import OPERATIONS
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


def test_inputs_are_of_their_dtype_and_always_the_same():
    for name in expected("bfloat16"):
        for arrays in inputs_of(name, "bfloat16").values():
            for x in arrays:
                assert x.dtype.kind != "f" or x.dtype == np.float32 and not (x.view(np.uint32) & 0xFFFF).any()
    once = inputs_of("dense", "float64")["large"][0]
    inputs_of.cache_clear()
    assert np.array_equal(once, inputs_of("dense", "float64")["large"][0])


def test_bounds_are_a_few_eps_for_an_element_and_a_root_for_a_sum():
    assert all(OPERATIONS[name].wide <= 16 for name in ("gelu", "gelu_tanh", "swiglu", "relu", "rotary", "dropout"))
    assert walk(16) == 8 and walk(400) == 70
