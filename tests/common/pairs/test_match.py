"""A match as a file: what is written is read, blocks are one line, and what does not fit names its line."""

from dataclasses import replace

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.pairs.match import Line, Match, carried, checked, read_match, returned, write_match
from twinscale.common.pairs.tensors import Tensor

A = [Tensor("tok/embeddings", (9, 4)), *(Tensor(f"block_{i}/{name}/kernel", (4, 4)) for i in range(3)
                                         for name in ("q", "k", "v"))]
B = [Tensor("wte", (9, 4)), *(Tensor(f"h/{i}/qkv/w", (12, 4)) for i in range(3)), Tensor("head", (4, 9))]
STEPS = (("join", 1), ("transpose", 1, 0))
MATCH = Match((Line("wte", ("tok/embeddings",)),
               *(Line(f"h/{i}/qkv/w", tuple(f"block_{i}/{name}/kernel" for name in ("q", "k", "v")), STEPS)
                 for i in range(3)), Line("head", ("tok/embeddings",), (("transpose", 1, 0),))))


def test_what_is_written_is_read_and_blocks_are_one_line(tmp_path):
    file = tmp_path / "match.toml"
    dropping = replace(MATCH, dropout=(2, 0, 1))
    write_match(file, dropping)
    assert read_match(file, B) == dropping and "order = [3, 1, 2]" in file.read_text()
    write_match(file, MATCH)
    assert read_match(file, B) == MATCH
    lines = [line for line in file.read_text().splitlines() if line.startswith('"')]
    assert lines == ['"wte" = "tok/embeddings"', '"h/{i}/qkv/w" = "block_{i}/q/kernel, block_{i}/k/kernel, '
                     'block_{i}/v/kernel | join 1 | transpose 1 0"', '"head" = "tok/embeddings | transpose 1 0"']


def test_how_sure_a_line_is_and_what_is_ambiguous_stand_in_the_file_and_are_no_part_of_the_match(tmp_path):
    sure = Match(tuple(Line(line.b, line.a, line.steps, "by name") for line in MATCH.lines),
                 notes=("ambiguous: a and b",))
    write_match(tmp_path / "m.toml", sure)
    text = (tmp_path / "m.toml").read_text()
    assert "# ambiguous: a and b\n" in text and text.count("  # by name\n") == 3
    assert read_match(tmp_path / "m.toml", B) == MATCH == sure


def test_a_block_that_lies_otherwise_stays_a_line_of_its_own(tmp_path):
    odd = Match((*MATCH.lines[:3], Line("h/2/qkv/w", MATCH.lines[3].a[::-1], STEPS), MATCH.lines[4]))
    write_match(tmp_path / "m.toml", odd)
    assert read_match(tmp_path / "m.toml", B) == odd


def test_tensors_are_carried_as_it_says():
    rng = np.random.default_rng(0)
    values = {tensor.path: rng.normal(size=tensor.shape) for tensor in A}
    checked(MATCH, A, B)
    made = carried(MATCH, values)
    assert {name: x.shape for name, x in made.items()} == {tensor.path: tensor.shape for tensor in B}
    assert (made["h/1/qkv/w"][4:8] == values["block_1/k/kernel"].T).all()
    assert (made["head"] == values["tok/embeddings"].T).all()


@pytest.mark.parametrize("lines, said", [
    (MATCH.lines[1:], "wte: nothing is said"), ((*MATCH.lines, Line("wtf", ("tok/embeddings",))), "wtf: .*no such"),
    ((Line("wte", ("token",)), *MATCH.lines[1:]), "a has no tensor token"),
    ((Line("wte", ("block_0/q/kernel",)), *MATCH.lines[1:]), r"makes \(4, 4\), but \(9, 4\)"),
    ((*MATCH.lines[:1], Line("h/0/qkv/w", ("block_0/q/kernel",) * 3, STEPS), *MATCH.lines[2:]), "goes nowhere")])
def test_a_match_that_does_not_fit_names_the_tensor(lines, said):
    with pytest.raises(BadInput, match=said):
        checked(Match(tuple(lines)), A, B)


@pytest.mark.parametrize("text, said", [
    ("[tensors]\n'wte' = 3", "m.toml: tensors.wte"), ("[tensors]\n'wte' = 'a | turn 1'", "m.toml:2: wte: turn 1: no"),
    ("[tensors]\n[dropout]\norder = [1, 3]", r"dropout.order = \[1, 3\]: each of 1 to 2 once is wanted"),
    ("[other]", "m.toml: "), ("[tensors", "m.toml: not TOML"), ("[tensors]\n'x/{i}' = 'y'", "no tensor of b")])
def test_a_file_that_is_none_names_the_line(tmp_path, text, said):
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        read_match(tmp_path / "m.toml", B)


def test_what_was_carried_comes_back_where_all_of_it_is_there():
    a = [Tensor("q", (2, 3)), Tensor("k", (2, 3)), Tensor("table", (5, 2)), Tensor("mean", (4,), False)]
    b = [Tensor("qk", (6, 2)), Tensor("wte", (7, 2)), Tensor("running", (2, 2), False)]
    match = Match((Line("qk", ("q", "k"), (("join", 1), ("transpose", 1, 0))),
                   Line("wte", ("table",), (("pad", 0, 2),)),
                   Line("running", ("mean",), (("reshape", 2, 2),))))
    values = {tensor.path: np.random.default_rng(1).normal(size=tensor.shape) for tensor in a}
    there = carried(match, values)
    back = returned(match, a, b, there)
    assert list(back) == [tensor.path for tensor in a]
    assert all(np.array_equal(back[name], values[name]) for name in back)
    assert list(returned(match, a, b, {"running": there["running"]})) == ["mean"]
    assert returned(match, a, b, {}) == {}
