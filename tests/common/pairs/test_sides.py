"""A side of a pair: the user's function is called, and given what it asks for."""

from dataclasses import replace

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.families.pair import Pair
from twinscale.common.pairs.first import write_first
from twinscale.common.pairs.program import Program
from twinscale.common.pairs.sides import (
    asked,
    built,
    check_program,
    check_width,
    example,
    match_in,
    match_of,
    specs_of,
    tensors_in,
    tensors_out,
)
from twinscale.common.pairs.tensors import Tensor

pytestmark = pytest.mark.usefixtures("trusting")
BATCH = {"inputs": np.zeros((2, 5), np.int32), "positions": np.ones((2, 5), np.int32)}


@pytest.fixture
def pair(tmp_path):
    """pair(text, **values): the section of a pair whose functions stand in one file."""
    def of(text, **values):
        (tmp_path / "mine.py").write_text(text)
        named = {"keras": f"{tmp_path}/mine.py:build", "flax": f"{tmp_path}/mine.py:build"}
        return Pair.model_validate({"family": "pair", "reads": "text", "match": str(tmp_path / "match.toml"), **named,
                                    **values})

    return of


def test_a_program_is_built_with_the_options_of_the_pair(pair):
    m = pair("def build(width, sizes):\n    return width, sizes\n", options={"width": 3, "sizes": [1, 2]})
    assert built(m, "keras") == built(m, "flax") == (3, [1, 2])
    assert hash(m) == hash(m.model_copy())


@pytest.mark.parametrize(("text", "said"), [
    ("def build():\n    raise OSError('no weights')\n", "breaks when it is called with options {}: OSError: no w"),
    ("def build(width):\n    pass\n", r"TypeError: build\(\) missing 1 required positional argument: 'width'"),
    ("build = 3\n", "int: a function that builds the program is wanted"),
    ("def make():\n    pass\n", "has no build")])
def test_a_builder_that_does_not_build_is_refused_with_the_place(pair, text, said):
    with pytest.raises(BadInput, match=said) as error:
        built(pair(text), "keras")
    assert "mine.py" in str(error.value)


def test_a_program_takes_its_one_array_or_what_it_asks_for_by_its_own_names(pair):
    text = "def build():\n    pass\n"
    assert asked(pair(text), "keras", BATCH) is BATCH["inputs"]
    m = pair(text, inputs={"inputs": {"keras": "token_ids", "flax": "input_ids"},
                           "positions": {"flax": "position_ids"}})
    assert list(asked(m, "keras", BATCH)) == ["token_ids", "positions"]
    assert list(asked(m, "flax", BATCH)) == ["input_ids", "position_ids"]
    with pytest.raises(BadInput, match="model.inputs.segments: a batch has no segments: it has inputs, positions"):
        asked(pair(text, inputs={"segments": {}}), "keras", BATCH)


def test_an_example_has_ids_that_there_are_and_a_specs_dtypes():
    specs = specs_of({"inputs": ((None, 7), "int32"), "positions": ((None, 7), "int32")})
    batch = example(specs, 11)
    assert batch["inputs"].shape == (2, 7) and 0 <= batch["inputs"].min() <= batch["inputs"].max() < 11
    assert not batch["positions"].any()
    image = example(specs_of({"inputs": ((None, 4, 4, 1), "float64")}), 10)["inputs"]
    assert image.dtype == np.float64 and 0 <= image.min() <= image.max() <= 1


def test_a_program_gives_one_output_of_logits_in_the_precision_that_it_is_asked_for(pair):
    m = pair("def build():\n    pass\n")

    def check(**outputs):
        made = {name: np.zeros(shape) for name, shape in outputs.items()}
        program = Program("", (), {}, lambda *_: (made, {}), lambda *_: ({}, {}), "float64")
        check_program(m, "flax", program, BATCH, 11)

    check(output=(2, 5, 11))
    with pytest.raises(BadInput, match="say by model.outputs.flax which of them"):
        check(a=(2, 5, 11), b=(2,))
    with pytest.raises(BadInput, match=r"gives \(2, 5, 8\), but logits \(2, 5, 11\) are wanted"):
        check(output=(2, 5, 8))
    program = Program("", (), {}, lambda *_: ({}, {}), lambda *_: ({}, {}), "float64", "Dense_0 (float32)")
    with pytest.raises(BadInput, match=r"in less than float64 whatever comes in, first at Dense_0 \(float32\)"):
        check_width("flax", program)
    check_width("flax", replace(program, lower=""))


def test_a_match_that_is_not_there_yet_is_said_to_be_made_by_a_verb(pair):
    with pytest.raises(BadInput, match=r"match.toml: no such file: `twinscale match RECIPE` makes it"):
        match_of(pair("def build():\n    pass\n"), [Tensor("a/kernel", (2, 2))])


def test_the_first_side_has_the_canonical_tensors_and_the_second_what_the_match_makes_of_them(pair, tmp_path):
    m = pair("def build():\n    pass\n")
    first, second = (Tensor("fc/kernel", (2, 3)),), (Tensor("dense/kernel", (3, 2)),)
    values = {"fc/kernel": np.arange(6.0).reshape(2, 3)}
    write_first(tmp_path / "match.safetensors", first, values)
    (tmp_path / "match.toml").write_text('[tensors]\n"dense/kernel" = "fc/kernel | transpose 1 0"\n')
    assert match_in(m, "keras", first) is None
    assert tensors_in(None, values, np) == values and tensors_out(None, first, first, values, np) == values
    match = match_in(m, "flax", second)
    made = tensors_in(match, values, np)
    assert np.array_equal(made["dense/kernel"], values["fc/kernel"].T)
    assert np.array_equal(tensors_out(match, first, second, made, np)["fc/kernel"], values["fc/kernel"])
    with pytest.raises(BadInput, match="model.weights: fc/kernel is another tensor than the Keras model has"):
        match_in(m, "keras", (Tensor("fc/kernel", (2, 4)),))
