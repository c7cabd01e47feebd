"""The stages of a compression in a recipe: a schedule of pruning arrives, or is refused."""

import pytest

from tests.common.compress.test_rules import described


# The nearest that works is named.
@pytest.mark.parametrize(("stage", "said"), [
    ({"every": 7, "end": 90}, "never reached.*set end=84"),
    ({"steps": 50, "end": 60}, "never reached.*due at update 60 and steps=50"),
    ({"begin": 20, "end": 10}, "end=10 is not after begin=20"),
    ({"sparsity": 0.5, "initial": 0.6}, "initial=0.6 is above")])
def test_a_schedule_that_never_arrives_is_refused(stage, said):
    with pytest.raises(ValueError, match=said):
        described({"kind": "prune", **stage})
