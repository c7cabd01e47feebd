"""Functions of the user's own that a table of a recipe names."""

import pytest

from twinscale.common.errors import BadInput
from twinscale.common.objectives import PairObjective
from twinscale.common.own import a_function, applied, called
from twinscale.common.trust import Untrusted

FILE = """
def made(x, rate=0.5, betas=()):
    return [x, rate, betas]

def breaks():
    raise KeyError("rate")

NUMBER = 1
"""


@pytest.fixture
def section(tmp_path):
    """section("made", rate=1): a table that names a function of FILE, with options."""
    (tmp_path / "mine.py").write_text(FILE)

    def of(name, **options):
        reference = f"{tmp_path}/mine.py:{name}"
        return PairObjective(keras=reference, jax=reference, options=options)

    return of


def test_a_function_is_called_with_what_it_is_given_and_the_options(section, trusting):
    found = called("objective", section("made", rate=0.25, betas=[1, 2]), "keras", "a loss", "x")
    assert found == ["x", 0.25, [1, 2]] and isinstance(hash(section("made", betas=[1])), int)


def test_what_breaks_or_is_no_function_is_said_with_its_line(section, trusting):
    with pytest.raises(BadInput, match=r"objective.jax = mine.py:breaks: breaks when .*KeyError[^$]*line 6"):
        called("objective", section("breaks"), "jax", "a loss")
    with pytest.raises(BadInput, match="objective.keras = mine.py:NUMBER: int: a function that returns a loss"):
        called("objective", section("NUMBER"), "keras", "a loss")


def test_what_the_user_has_not_named_is_not_run(section):
    with pytest.raises(Untrusted):
        called("objective", section("made"), "jax", "a loss", 1)


def test_a_name_alone_is_no_function():
    with pytest.raises(ValueError, match="write FILE.py:OBJECT or MODULE:OBJECT"):
        a_function("made")
    assert a_function("mine:made") == "mine:made"


def test_a_function_that_a_key_names_is_called_by_itself(section, trusting):
    name = section("made").keras
    assert applied("data.rewrite", name, "a list", "x", rate=2) == ["x", 2, ()]
    with pytest.raises(BadInput, match="data.rewrite = mine.py:NUMBER: int: a function that returns a list is wanted"):
        applied("data.rewrite", name.replace("made", "NUMBER"), "a list")
