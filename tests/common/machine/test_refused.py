"""The compiler's words where a program does not fit."""

import pytest

from twinscale.common.machine.refused import refusal

GIB = 2**30


@pytest.mark.parametrize("said, used, of", [
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.08G of 15.75G hbm. Exceeded", 16.08, 15.75),
    ("INTERNAL: HLO temporaries (512.0M) exceeds available HBM (0.25", 0.5, 0.25)])
def test_what_does_not_fit_says_how_much_it_takes(said, used, of):
    found = refusal(f"{said}\nmore")
    assert found == {"error": said, "over_bytes": round(used * GIB), "capacity_bytes": round(of * GIB)}


def test_what_is_over_by_less_than_the_last_digit_of_both_is_told():
    found = refusal("Ran out of memory in memory space hbm. Used 15.75G of 15.75G hbm. Exceeded hbm capacity by 5.30M.")
    assert found["over_bytes"] - found["capacity_bytes"] == round(5.3 * 2**20)


def test_another_error_has_no_figures():
    assert refusal("INVALID_ARGUMENT: no such option") == {"error": "INVALID_ARGUMENT: no such option",
                                                           "over_bytes": None, "capacity_bytes": None}
