"""The fixture `twinscale_check`, for the tests of a port. It is there wherever Twinscale is installed, and loads no
framework before a test asks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twinscale.common.pairs.judge import PairVerdict


@pytest.fixture
def twinscale_check() -> "Callable[..., PairVerdict]":
    """`twinscale.check`, which raises Disagreement, with the sentence on where two programs part, where they are not
    one function; otherwise it returns the verdict."""
    def check(a: Any, b: Any, inputs: Any, **options: Any) -> "PairVerdict":
        import twinscale

        verdict = twinscale.check(a, b, inputs, **options)
        verdict.raise_if_not()
        return verdict

    return check
