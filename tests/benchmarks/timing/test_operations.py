"""Single operations beside a machine's best, from rounds made by hand."""

import json
from types import SimpleNamespace

import pytest

from twinscale.benchmarks.peers.operations import Operation
from twinscale.benchmarks.timing import operations as timing
from twinscale.common.errors import BadInput, MissingEnvironment
from twinscale.common.recipe.schema import Recipe

DECODER = {"family": "decoder", "layers": 1, "width": 8, "heads": 2}
DATASET = SimpleNamespace(classes=5, example_shape=(6,))


def recipe(**sections):
    """A small decoder."""
    return Recipe.model_validate({"name": "x", "data": {"sequence": 6}, "model": DECODER, **sections})


class Side:
    """A side whose calls take `seconds` each, and whose first, which compiles, takes long."""

    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def __call__(self, name, count):
        self.asked.append(count)
        return (1000 if len(self.asked) == 1 else self.seconds) * count


def test_a_round_has_as_many_calls_for_all_and_what_compiles_is_left_out():
    slow, fast = Side(timing.ROUND / 4), Side(timing.ROUND / 40)
    taken = timing.rounds_of("gelu", {"slow": slow, "fast": fast}, 3)
    assert slow.asked == fast.asked == [1, 1, 4, 4, 4, 4]
    assert taken["slow"] == pytest.approx([slow.seconds] * 3) and taken["fast"] == pytest.approx([fast.seconds] * 3)


def test_an_operation_is_held_to_the_slower_of_both_bounds_of_its_own_round():
    """The machine slows down by half from round to round: neither the ratio nor its interval hears of it."""
    slowing = [1.0, 1.5, 2.25]
    taken = {timing.COPY: [0.1 * s for s in slowing], "JAX": [0.3 * s for s in slowing]}
    found = timing.figures(Operation((), 100), taken, 1e3)
    assert found["bound"] == "memory" and found["least_seconds"] == pytest.approx(0.15) and found["bytes"] == 400
    assert found["sides"]["JAX"]["times_interval"] == pytest.approx([3, 3])
    found = timing.figures(Operation((), 100, 2000), {timing.COPY: [0.1] * 3, "JAX": [3.0] * 3}, 1e3)
    assert found["bound"] == "products" and found["least_seconds"] == 2 and list(found["sides"]) == ["JAX"]
    assert found["sides"]["JAX"]["times"] == pytest.approx(1.5)


def test_a_copy_is_made_of_half_the_values():
    for values in (1, 2, 1001):
        copy = timing.copier(values)
        copy()
        assert timing.copied(copy, 3) > 0


def test_what_is_no_decoder_in_float32_is_refused_and_a_decoder_has_the_shapes_of_its_weights():
    found = timing.asked_of(recipe(), DATASET)
    assert [5, 8] in found["shapes"] and found["heads"] == 2 and found["length"] == 6
    for sections in ({"train": {"precision": "bfloat16"}}, {"model": {"family": "mlp"}, "data": {"source": "digits"}}):
        with pytest.raises(BadInput, match="model.family"):
            timing.asked_of(recipe(**sections), DATASET)


def test_a_side_that_is_not_here_is_left_out_and_said_and_none_at_all_is_an_error(monkeypatch):
    def absent(side, imports):
        if side == "PyTorch":
            raise MissingEnvironment("--peers PyTorch: torch: not here")
        return "python"

    monkeypatch.setattr(timing, "python_of", absent)
    found, why = timing.commands({})
    assert list(found) == ["JAX", "TensorFlow"] and why == ["PyTorch: torch: not here"]
    monkeypatch.setattr(timing, "SIDES", {"PyTorch": timing.SIDES["PyTorch"]})
    monkeypatch.setattr(timing, "open_dataset", lambda recipe: DATASET)
    with pytest.raises(MissingEnvironment, match="PyTorch: torch: not here"):
        timing.measured(recipe())


def test_every_operation_is_asked_of_every_side_and_told(monkeypatch, capsys):
    """Sides that take 2 ms a call, whatever it is."""
    class Peer:
        versions = {"jax": "1"}

        def __init__(self, name):
            self.name, self.asked = name, []

        def ask(self, request):
            self.asked.append(request["name"])
            return {"seconds": 2e-3 * request["count"]}

    peers = [Peer("JAX"), Peer("TensorFlow")]

    class Opened:
        def __enter__(self):
            return peers

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(timing, "open_dataset", lambda recipe: DATASET)
    monkeypatch.setattr(timing, "given", lambda name, overrides: recipe())
    monkeypatch.setattr(timing, "commands", lambda wanted: ({"JAX": ()}, ["PyTorch: not here"]))
    monkeypatch.setattr(timing, "opened", lambda found: Opened())
    monkeypatch.setattr(timing, "product_rate", lambda *_: 1e6)
    monkeypatch.setenv("COLUMNS", "120")
    assert timing.main(["x", "--rounds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rate"] == pytest.approx(2 * 1024**3 / 2e-3)
    assert set(result["call_seconds"]) == {"JAX", "TensorFlow"}
    for name, each in result["operations"].items():
        assert set(each["sides"]) == {"JAX", "TensorFlow"}, name
        assert each["sides"]["JAX"]["seconds"] == pytest.approx(2e-3), name
    assert set(peers[0].asked) == set(peers[1].asked) == {"square", "call", *result["operations"]}
    assert timing.main(["x", "--rounds", "2"]) == 0
    said = capsys.readouterr().out
    assert "softmax, gradient" in said and "left out: PyTorch: not here" in said
    assert "JAX 2.0 ms, TensorFlow 2.0 ms." in " ".join(said.split())
