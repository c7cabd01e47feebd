"""What a model returns, by name."""

from collections import namedtuple

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.pairs.program import chosen, named_outputs

X, Y = np.zeros(2), np.ones(3)


class Output(dict):
    """As the transformers library's."""

    def to_tuple(self):
        return tuple(self.values())


@pytest.mark.parametrize("made, names", [
    (X, ["output"]), ((X, Y), ["0", "1"]), ([X], ["0"]), ({"a": X, "b": Y}, ["a", "b"]),
    (Output(last=X, cache=None), ["last"]), (namedtuple("Two", "one other")(X, Y), ["one", "other"])])
def test_outputs_have_their_names_or_their_numbers(made, names):
    assert list(named_outputs(made)) == names


def test_one_output_is_chosen_and_a_name_that_none_has_is_said():
    assert list(chosen({"a": X, "b": Y}, None, "keras")) == ["a", "b"]
    assert chosen({"a": X, "b": Y}, "b", "keras")["output"] is Y
    with pytest.raises(BadInput, match="keras has no output logit: it has a, logits.*mean"):
        chosen({"a": X, "logits": Y}, "logit", "keras")
