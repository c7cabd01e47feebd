"""The steps: their order, what each asks of the machine, and what is made of what it sees."""

import json
import sys
from types import SimpleNamespace

import pytest

from tests.benchmarks.device_check.conftest import CPUS
from twinscale.benchmarks.device_check import steps
from twinscale.benchmarks.results import Bench
from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError

BENCH = json.loads((steps.process.ROOT / "tests" / "examples" / "bench.json").read_text())


def verdict(code, sentence="it was seen"):
    return SimpleNamespace(exit_code=code, sentence=sentence, horizon=None,
                           rungs=[SimpleNamespace(name="P5", worst=1.0, bound=2.0)])


@pytest.fixture
def trained(monkeypatch):
    """Trains nothing, and returns what was to be trained: [(run, backend, recipe, where)]."""
    asked = []

    def train(out, name, backend, recipe, where="device"):
        asked.append((name, backend, recipe, where))
        return out / "runs" / name

    monkeypatch.setattr(steps, "trained", train)
    monkeypatch.setattr(steps, "devices", lambda path: path.name)
    return asked


def step_of(desk, name):
    return next(step for step in steps.steps_of(desk) if step.name == name)


def test_the_order_is_from_what_is_there_over_what_is_computed_to_how_fast(desk_of):
    found = steps.steps_of(desk_of())
    assert [step.name for step in found] == [
        "environment", "parity-mlp-keras", "parity-mlp-jax", "parity-decoder-keras", "parity-decoder-jax", "bfloat16",
        "attention", "determinism", "peer-torch", "peer-torch-compile", "bench"]
    assert [step.backends for step in found[5:]] == [("keras", "jax"), ("jax",), ("jax",), (), (), ("keras", "jax")]


def test_the_environment_is_left_as_doctor_says_it(desk_of, tmp_path):
    desk = desk_of()
    found = step_of(desk, "environment").take(desk)
    assert found.said == "Keras on NVIDIA H200; JAX on NVIDIA H200" and found.files == ("environment.json",)
    assert json.loads((tmp_path / "environment.json").read_text()) == desk.environment


@pytest.mark.parametrize("code, state", [(0, "holds"), (1, "no"), (3, "open")])
def test_parity_is_of_one_recipe_on_the_device_and_on_the_cpu(desk_of, trained, monkeypatch, code, state):
    monkeypatch.setattr(steps, "compared_runs", lambda a, b, out, overwrite: verdict(code))
    desk = desk_of()
    found = step_of(desk, "parity-decoder-keras").take(desk)
    recipe = desk.recipes["decoder"]
    assert trained == [("parity-decoder-keras-device", "keras", recipe, "device"),
                       ("parity-decoder-keras-cpu", "keras", recipe, "cpu")]
    assert (found.state, found.said) == (state, "it was seen")
    assert found.files == ("runs/parity-decoder-keras-device", "runs/parity-decoder-keras-cpu",
                           "compared/parity-decoder-keras/verdict.json")
    assert found.figures["rungs"] == {"P5": {"worst": 1.0, "bound": 2.0}} and len(found.figures["devices"]) == 2


def test_a_rehearsals_device_is_the_cpu(desk_of, trained, monkeypatch):
    monkeypatch.setattr(steps, "compared_runs", lambda *_, **__: verdict(0))
    desk = desk_of(CPUS, True)
    step_of(desk, "parity-mlp-jax").take(desk)
    assert {where for *_, where in trained} == {"cpu"}


def test_both_are_compared_in_bfloat16(desk_of, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(steps, "compared_both", lambda recipe, out, **given: asked.append((recipe, out, given))
                        or verdict(0))
    desk = desk_of()
    found = step_of(desk, "bfloat16").take(desk)
    (recipe, out, given), = asked
    assert recipe.train.precision == "bfloat16" and out == tmp_path / "compared" / "bfloat16" and given["overwrite"]
    assert given["asked"][-1] == "train.precision=bfloat16" and found.files == ("compared/bfloat16/verdict.json",)


def test_attention_is_the_kernel_against_the_reference_and_skipped_where_there_is_none(desk_of, trained, monkeypatch):
    monkeypatch.setattr(steps, "compared_runs", lambda *_, **__: verdict(0))
    desk = desk_of()
    assert step_of(desk, "attention").take(desk).state == "holds"
    assert [(name, recipe.jax.attention) for name, _, recipe, _ in trained] == [
        ("attention-cudnn", "cudnn"), ("attention-einsum", "einsum")]

    def refuses(*_):
        raise BadInput("JAX: jax.attention=cudnn: needs an NVIDIA GPU, this is cpu; set auto")

    monkeypatch.setattr(steps, "trained", refuses)
    with pytest.raises(steps.Skip, match="needs an NVIDIA GPU, this is cpu"):
        step_of(desk, "attention").take(desk)


@pytest.mark.parametrize("differing, state, said", [
    ([], "holds", "all 9 losses and tensors are equal bit for bit"),
    (["loss of step 2"], "no", "1 of 9 losses and tensors differ in their bits, first loss of step 2")])
def test_determinism_is_two_trainings_with_equal_bits(desk_of, trained, monkeypatch, differing, state, said):
    monkeypatch.setattr(steps, "unequal", lambda a, b: (differing, 9))
    desk = desk_of()
    found = step_of(desk, "determinism").take(desk)
    assert (found.state, found.said) == (state, said) and len({name for name, *_ in trained}) == 2
    assert all(recipe.jax.deterministic and recipe.jax.attention == "einsum" for _, _, recipe, _ in trained)


SEEN = {"version": "2.14", "device": "cuda", "kind": "NVIDIA H200", "error": None}


@pytest.mark.parametrize("peer, rehearsed, seen, reason", [
    ("peer-torch", False, {}, None), ("peer-torch-compile", False, {}, None),
    ("peer-torch", True, {"device": "cpu", "kind": "cpu"}, None),
    ("peer-torch", False, {"device": "cpu", "kind": "cpu"}, "torch 2.14 on cpu: it sees no GPU"),
    ("peer-torch-compile", False, {"error": "no Triton"}, "torch.compile does not work: no Triton"),
    ("peer-torch-compile", True, {}, "torch.compile is tried on a GPU, and this is a rehearsal")])
def test_a_peer_that_cannot_run_beside_is_skipped_with_the_reason(desk_of, monkeypatch, peer, rehearsed, seen, reason):
    monkeypatch.setattr(steps, "python_of", lambda *_: "python")
    monkeypatch.setattr(steps, "asked_of", lambda python, compiling: SEEN | seen)
    desk = desk_of(rehearsed=rehearsed)
    if reason:
        with pytest.raises(steps.Skip, match=reason):
            step_of(desk, peer).take(desk)
    else:
        assert step_of(desk, peer).take(desk).said == f"torch 2.14 on {(SEEN | seen)['kind']}"


def test_no_python_with_torch_is_a_reason_too(desk_of, monkeypatch):
    def nowhere(*_):
        raise MissingEnvironment("--peers torch: torch: not all of them are here")

    monkeypatch.setattr(steps, "python_of", nowhere)
    with pytest.raises(steps.Skip, match="not all of them are here"):
        step_of(desk_of(), "peer-torch").take(desk_of())


def test_a_torch_that_dies_says_so(monkeypatch):
    monkeypatch.setattr(steps.process, "run", lambda words, *_, **__: SimpleNamespace(
        stdout="", stderr="warning\nno libcuda\n", returncode=1))
    with pytest.raises(TwinscaleError, match="torch ended with exit code 1: no libcuda"):
        steps.asked_of(sys.executable, True)


def test_speed_is_a_bench_beside_the_peers_that_can_run(desk_of, row, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(steps, "benched", lambda recipe, out, **given: asked.append((recipe, out, given))
                        or Bench.model_validate(BENCH))
    desk = desk_of()
    desk.ended.update({"peer-torch": row("peer-torch"), "peer-torch-compile": row("peer-torch-compile", "skipped")})
    found = step_of(desk, "bench").take(desk)
    (recipe, out, given), = asked
    assert recipe.name == "decoder-125m" and out == tmp_path / "bench" and given["peers"] == ["torch"]
    assert given["backends"] == ("keras", "jax") and (given["steps"], given["rounds"]) == (10, 6)
    side = next(iter(BENCH["sides"].values()))
    assert found.state == "holds" and side["mfu_convention"] in found.said and found.files == ("bench/bench.json",)
    refused = {name: each | {"refused": ["an MFU of 120 % is above 100 %"]} for name, each in BENCH["sides"].items()}
    monkeypatch.setattr(steps, "benched", lambda *_, **__: Bench.model_validate(BENCH | {"sides": refused}))
    assert (found := step_of(desk, "bench").take(desk)).state == "open" and "above 100 %" in found.said
