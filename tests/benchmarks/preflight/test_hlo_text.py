"""The text of a module."""

import pytest

from twinscale.benchmarks.preflight.hlo_text import parse


def test_text_that_is_no_module_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        parse("nothing here")
