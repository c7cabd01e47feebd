"""The kinds of values that files may hold."""

from typing import NotRequired

import pytest
from typing_extensions import TypedDict

from twinscale.common.errors import BadInput
from twinscale.common.files.access import (
    read_json,
)
from twinscale.common.files.kinds import STRICT, Number


class Inner(TypedDict):
    __pydantic_config__ = STRICT

    seconds: Number
    names: NotRequired[list[str]]


def refusal(read, *args):
    """The one line that a refusal is."""
    with pytest.raises(BadInput) as caught:
        read(*args)
    assert str(caught.value).isprintable() and caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "true", '"1"', "[]"])
def test_what_is_no_finite_number_is_no_number(tmp_path, number):
    path = tmp_path / "x.json"
    path.write_text('{"seconds": ' + number + "}")
    assert "expected a" in refusal(read_json, path, Inner)
