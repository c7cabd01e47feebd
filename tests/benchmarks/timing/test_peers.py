"""Peers: what they are asked to train, which Python runs them, and what their rounds say."""

import sys
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.timing import peers
from twinscale.common.errors import BadInput, MissingEnvironment, TwinscaleError
from twinscale.common.recipe.schema import Recipe

DECODER = {"family": "decoder", "layers": 2, "width": 8, "heads": 2, "hidden": 24}
ENCODER = {"family": "encoder", "layers": 2, "width": 8, "heads": 2, "vocabulary": 300, "positions": 9,
           "head": "sequence"}
TABLES = ["embedding.*", "position.*", "token_type.*"]
TABLE = {"source": "csv:x", "tokenizer": "wordpiece", "vocabulary": 300, "sequence": 6}
DATA = {"decoder": {"sequence": 6}, "encoder": TABLE, "mlp": {"source": "digits"}}
SHAPES = {"decoder": (6,), "encoder": (("ids", (6,), "int32"),)}
# A peer that says what it was given, and dies of a count of 9.
ANSWERS = """
import json, sys
print(json.dumps({"versions": {"peer": str(json.loads(sys.stdin.readline())["layers"])}, "device": "H200"}), flush=True)
for line in sys.stdin:
    count = json.loads(line)["count"]
    if count == 9:
        sys.exit("nine is too many")
    print(json.dumps({"seconds": 0.5 * count}), flush=True)
"""


def asked(model, **sections):
    """What `peers.job` makes of a recipe."""
    recipe = Recipe.model_validate({"name": "x", "data": DATA[model["family"]], "model": model, **sections})
    return peers.job(recipe, SimpleNamespace(classes=5, example_shape=SHAPES.get(model["family"])))


def test_a_job_has_the_recipes_sizes():
    found = asked(DECODER, train={"global_batch": 3}, optimizer={"name": "adamw", "weight_decay": 0.5})
    assert found["causal"] and found["tied"] and not found["frozen"] and found["hidden"] == 24
    assert (found["vocabulary"], found["classes"], found["positions"], found["length"]) == (5, 5, 6, 6)
    assert (found["batch"], found["decay"]) == (3, 0.5)
    found = asked(ENCODER, optimizer={"name": "adamw", "freeze": TABLES})
    assert not found["causal"] and found["frozen"] and found["pooler"]
    assert (found["vocabulary"], found["classes"], found["positions"], found["length"]) == (300, 5, 9, 6)


@pytest.mark.parametrize(("model", "sections", "said"), [
    ({"family": "mlp"}, {}, 'model.family = "mlp": peers train'),
    (ENCODER | {"norm": "pre"}, {}, "post-norm encoders"),
    (DECODER | {"positions": "rotary"}, {}, "model.positions = 'rotary': peers have 'learned'"),
    (ENCODER | {"activation": "relu"}, {}, 'model.activation = "relu"'),
    (DECODER, {"train": {"precision": "float64"}}, 'train.precision = "float64": peers train in float32 or bfloat16'),
    (ENCODER, {"optimizer": {"name": "adamw", "freeze": ["block_0.*"]}}, "optimizer.freeze = .*but the tables"),
    (ENCODER, {"optimizer": {"name": "adamw", "freeze": TABLES[:1]}}, "optimizer.freeze")])
def test_what_peers_do_not_train_is_refused_with_its_key(model, sections, said):
    with pytest.raises(BadInput, match=said):
        asked(model, **sections)


def test_names_and_environments_that_are_not_there_are_one_line(monkeypatch):
    recipe = Recipe.model_validate({"name": "x", "data": {"sequence": 6}, "model": DECODER})
    dataset = SimpleNamespace(classes=5, example_shape=(6,))
    with pytest.raises(BadInput, match="--peers='tinygrad'.*known are keras-fit, torch, hf-trainer, torch-compile"):
        peers.commands(["tinygrad"], recipe, dataset)
    with pytest.raises(BadInput, match="maxtext-compile: .* not timed: ask `twinscale preflight .* --peers maxtext-"):
        peers.commands(["maxtext-compile"], recipe, dataset)
    with pytest.raises(BadInput, match="--peers hf-trainer: it trains encoders alone"):
        peers.commands(["hf-trainer"], recipe, dataset)
    narrow = recipe.with_values(train={"precision": "bfloat16"})
    with pytest.raises(BadInput, match='--peers keras-fit: train.precision = "bfloat16": it trains in float32'):
        peers.commands(["keras-fit"], narrow, dataset)
    monkeypatch.setattr(peers, "python_of", lambda *_: "python")
    for name, (command, given) in peers.commands(["torch", "torch-compile"], narrow, dataset).items():
        assert command[-1].endswith(peers.PEERS[name][0]) and given["precision"] == "bfloat16"
    monkeypatch.undo()
    monkeypatch.setenv(peers.VARIABLE, "/nowhere/python")
    with pytest.raises(MissingEnvironment, match="/nowhere/python: `make peers` makes such an environment"):
        peers.python_of("torch", ["a_module_of_nobody"])
    monkeypatch.setattr(peers, "lacking", lambda modules: modules[0])
    monkeypatch.setenv(peers.VARIABLE, sys.executable)
    assert peers.python_of("torch", ["json"]) == sys.executable


def test_a_process_is_asked_and_its_first_round_left_out():
    with peers.opened({"torch": ([sys.executable, "-c", ANSWERS], {"layers": 2})}) as beside:
        peer = beside[0]
        assert peer.versions == {"peer": "2"} and [peer.train(n) for n in (4, 2, 2)] == [2.0, 1.0, 1.0]
        assert peer.seconds == [0.5, 0.5]
        sides = {"jax": {"loop_ms": {"rounds": [250.0, 250.0]}}}
        found = peers.figures(beside, sides, 64)
        with pytest.raises(TwinscaleError, match="peer torch died: nine is too many"):
            peer.train(9)
    assert peer.process.returncode is not None
    assert found["torch"]["throughput"] == pytest.approx(128)
    assert found["torch"]["times"]["jax"]["ratio"] == pytest.approx(2)
    assert found["torch"]["step_ms"]["rounds"] == [500, 500]
    line, = peers.lines(found, "tokens/s")
    assert line.startswith("torch (peer 2, on H200): 500 ms a step, 128 tokens/s; jax has 2.00 [")
    assert line.endswith("times its throughput")
