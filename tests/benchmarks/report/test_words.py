"""Values in a report's words."""

import math

from twinscale.benchmarks.report.words import interval, margin, number, severity, tensor_margin


def test_values_read_well():
    assert [number(x) for x in (None, 1234567, 0.04211, 12.0)] == ["–", "1,234,567", "0.042", "12"]
    assert interval((1.2345, 20000)) == "1.23 – 20,000"


def test_what_is_no_number_is_worse_than_any_and_a_missed_zero_is_not_exact():
    assert severity({"worst": math.nan, "bound": 1.0}) == math.inf == severity({"worst": 1.0, "bound": 0.0})
    assert severity({"worst": 0.5, "bound": 2.0}) == 0.25 and severity({"worst": 0.0, "bound": 0.0}) == 0
    assert margin({"worst": 0.5, "bound": 2.0}) == tensor_margin({"ratio": 0.25, "bound": 2.0}) == "4.0 ×"
    assert margin({"worst": 1.0, "bound": 0.0}) == tensor_margin({"difference": 1.0, "bound": 0}) == "not exact"
