"""How a pair comes to its match: what one room leaves, the other finds; here with programs of NumPy in both."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from twinscale.common.errors import BadInput
from twinscale.common.pairs.first import first_shapes
from twinscale.common.pairs.match import Match, checked, read_match, without_partner
from twinscale.common.pairs.matching import check_names, idle_program, leave_program, match_program
from twinscale.common.pairs.program import Program
from twinscale.common.pairs.tensors import Tensor
from twinscale.common.recipe.file import given

ROOM = SimpleNamespace(numerics=lambda recipe: nullcontext())
A = (Tensor("hidden/kernel", (64, 6)), Tensor("hidden/bias", (6,)), Tensor("logits/kernel", (6, 10)))
B = (Tensor("fc/w", (6, 64)), Tensor("fc/b", (6,)), Tensor("out/w", (10, 6)))


def program(tensors, run):
    start = {tensor.path: np.random.default_rng(1).normal(size=tensor.shape).astype(np.float32) for tensor in tensors}
    return lambda *given: Program("of NumPy", tensors, start, lambda t, x, *_: ({"output": run(t, x)}, {}),
                                  lambda t, *_: ({name: np.ones_like(x) for name, x in t.items()}, {}))


def original(t, x):
    return np.tanh(x.reshape(len(x), -1) @ t["hidden/kernel"] + t["hidden/bias"]) @ t["logits/kernel"]


def port(t, x, factor=1.0):
    return factor * np.tanh(x.reshape(len(x), -1) @ t["fc/w"].T + t["fc/b"]) @ t["out/w"].T


@pytest.fixture
def matched(tmp_path):
    """matched(run): what is found of a port, (the answer, the folder)."""
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "pair.toml").write_text(
        'name = "pair"\n[data]\nsource = "digits"\n[model]\nfamily = "pair"\nreads = "images"\n'
        'keras = "mine.py:build"\nflax = "mine.py:port"\nmatch = "match.toml"\n[train]\nglobal_batch = 4\n')
    recipe = given(tmp_path / "pair.toml").model_dump(mode="json")
    files = {"first": str(tmp_path / "first.safetensors"), "outputs": str(tmp_path / "outputs.safetensors")}

    def find(run, tensors=B, **idle):
        left = leave_program(ROOM, program(A, original), recipe, **files)
        assert left == {"kind": "of NumPy", "lower": "", "tensors": 3, "values": 64 * 6 + 6 + 60}
        out = str(tmp_path / "match.toml")
        return match_program(ROOM, program(tensors, run), recipe, **files, out=out, **idle), tmp_path

    return find


def test_turned_kernels_under_other_names_are_found_by_what_the_other_room_left(matched):
    found, folder = matched(port)
    assert found["agrees"] and found["difference"] < 1e-6 and found["lines"] == 3
    lines = {line.b: line.text for line in read_match(folder / "match.toml", B).lines}
    assert lines == {"fc/w": "hidden/kernel | transpose 1 0", "fc/b": "hidden/bias",
                     "out/w": "logits/kernel | transpose 1 0"}
    assert "mine.py:build" in (folder / "match.toml").read_text()
    assert first_shapes(str(folder / "first.safetensors")) == {
        "hidden.kernel": (64, 6), "hidden.bias": (6,), "logits.kernel": (6, 10)}


def test_programs_that_are_not_one_keep_the_match_and_are_said_to_differ(matched):
    found, folder = matched(lambda t, x: port(t, x, 1.5))
    assert not found["agrees"] and found["difference"] == pytest.approx(0.5, rel=1e-3)
    assert (folder / "match.toml").exists()


def test_a_tensor_without_a_partner_is_named_and_nothing_is_written(matched, tmp_path):
    with pytest.raises(BadInput, match=r"without a partner: JAX: scale \(7,\)"):
        matched(port, (*B, Tensor("scale", (7,))), idle=())
    assert not (tmp_path / "match.toml").exists()
    assert without_partner(Match(()), A, B, ("Keras", "JAX")) == ""


@pytest.mark.parametrize(("one", "other", "said"), [
    ((4,), (4, 1), "taken for the same"), ((4, 3), (4, 3), None), ((4, 3), (4, 3, 1), "read")])
def test_a_last_axis_of_one_is_taken_for_none_where_an_objective_reads_the_same(one, other, said):
    made, others = ({"output": np.zeros(shape, np.float32)} for shape in (one, other))
    pair = SimpleNamespace(reads="arrays")
    if said == "read":
        with pytest.raises(BadInput, match=r"\(4, 3\) on one side and \(4, 3, 1\) on the other: an objective reads"):
            check_names(pair, made, others)
    else:
        told = check_names(pair, made, others)
        assert said in told[0] if said else not told


def with_idle(run, tensors, spare):
    """A program of NumPy with a tensor that its output has no use for, and gradients that say so."""
    tensors = (*tensors, Tensor(spare, (5,)))
    start = {tensor.path: np.full(tensor.shape, 0.1, np.float32) for tensor in tensors}

    def gradients(t, x, signs, *_):
        return {name: np.full_like(value, name != spare) for name, value in t.items()}, {"output": run(t, x)}

    return lambda *given: Program("of NumPy", tensors, start, lambda t, x, *_: ({"output": run(t, x)}, {}), gradients)


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_what_no_output_depends_on_is_left_out_where_outputs_prove_the_rest(matched, tmp_path, factor):
    matched(port)  # which writes the recipe's file
    recipe = given(tmp_path / "pair.toml").model_dump(mode="json")
    files = {"first": str(tmp_path / "first.safetensors"), "outputs": str(tmp_path / "outputs.safetensors"),
             "out": str(tmp_path / "idle.toml")}
    ours = with_idle(original, A, "spare/bias")
    theirs = with_idle(lambda t, x: port(t, x, factor), B, "unused/table")
    leave_program(ROOM, ours, recipe, files["first"], files["outputs"])
    bare = program(B, lambda t, x: port(t, x, factor))
    asked = match_program(ROOM, bare, recipe, **files)
    assert asked == {"unmatched": [*(tensor.path for tensor in A), "spare/bias"]}
    idle = idle_program(ROOM, ours, recipe, asked["unmatched"])
    assert idle == ["spare/bias"]
    if factor != 1.0:
        with pytest.raises(BadInput, match="tensors without a partner: Keras: spare/bias"):
            match_program(ROOM, bare, recipe, **files, idle=idle)
        return
    found = match_program(ROOM, theirs, recipe, **files, idle=idle)
    assert found["agrees"] and "no output depends on unused/table of JAX" in found["told"][1]
    tensors = (*B, Tensor("unused/table", (5,)))
    match = read_match(tmp_path / "idle.toml", tensors)
    assert (match.idle_a, match.idle_b) == (("spare/bias",), ("unused/table",)) and len(match.lines) == 3
    checked(match, (*A, Tensor("spare/bias", (5,))), tensors)
    with pytest.raises(BadInput, match=r"idle.b: unused/table: there is no such tensor"):
        checked(match, (*A, Tensor("spare/bias", (5,))), B)
