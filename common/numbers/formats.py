"""Machine constants of the formats that numbers are in, each defined once.

eps is the spacing of a format's numbers above 1, one unit in the last place of 1. A correct rounding is off by half an
eps of its value at most, the unit roundoff; what counts roundings says so by a factor of 0.5.
"""

import math

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7}
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126, "bfloat16": 2.0**-126}  # the smallest normal numbers

# Of what has 8 bits, by the names that NumPy's extension and JAX have: the largest magnitude that is taken, eps (0: all
# steps are alike), and the smallest step. The floating ones are those of Micikevicius et al. 2022, table 1.
EIGHT_BITS = {"int8": (127.0, 0.0, 1.0), "float8_e4m3fn": (448.0, 2.0**-3, 2.0**-9),
              "float8_e5m2": (57344.0, 2.0**-2, 2.0**-16)}

# What weights, slots and sums are in, of each precision.
MASTERS = {"float64": "float64", "float32": "float32", "bfloat16": "float32"}

# What is told apart at the end of a computation in a precision: float64 and float32 round all the way, some eps. Under
# bfloat16 float32 computes, and a value is rounded to bfloat16 once, by half an eps.
RESOLVED = EPS | {"bfloat16": 0.5 * EPS["bfloat16"]}

# Of a twin's first weights, relative to each: what their own rounding hides. A quarter of bfloat16's eps is within half
# a unit of the last place of any value, at the upper end of a power of two as at the lower.
DITHER = {"float64": 0.5 * EPS["float64"], "float32": 0.5 * EPS["float32"], "bfloat16": 0.25 * EPS["bfloat16"]}


def walk(n: int) -> float:
    """eps that a sum of n terms may be off, relative to the sum of the terms' magnitudes."""
    return min(n, 7 * math.sqrt(n)) / 2
