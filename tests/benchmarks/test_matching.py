"""`twinscale match`: what is refused before a process starts, and how what was found is said."""

import pytest

from twinscale.benchmarks.matching import match, sentence
from twinscale.common.errors import BadInput
from twinscale.common.recipe.file import given

FOUND = {"lines": 9, "tried": 4, "seconds": 2.04, "difference": 1.2e-7, "agrees": True}
PAIR = """name = "pair"
[data]
source = "digits"
[model]
family = "pair"
reads = "images"
keras = "mine.py:build"
flax = "mine.py:build"
match = "match.toml"
"""


def test_a_family_of_ours_is_not_matched():
    with pytest.raises(BadInput, match='model.family = "mlp": its tensors have one name in both'):
        match(given("mlp-digits"))


def test_files_that_are_there_are_not_overwritten_unless_asked(tmp_path):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "pair.toml").write_text(PAIR)
    (tmp_path / "match.safetensors").write_text("mine")
    with pytest.raises(BadInput, match=r"match.safetensors: is there already: .* --overwrite replaces it"):
        match(given(tmp_path / "pair.toml"))
    assert (tmp_path / "match.safetensors").read_text() == "mine"


def test_a_match_says_whether_outputs_agree():
    assert sentence({"flax": FOUND}) == "9 tensors matched in 4 trials and 2.0 s: outputs differ by 1.2e-07."
    apart = sentence({"flax": FOUND | {"agrees": False, "difference": 0.3}})
    assert "still differ by 3.0e-01" in apart and "the match of their names" in apart
