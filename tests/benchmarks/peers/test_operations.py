"""Single operations: what they take, what they cost at least, and how their calls are timed."""

import math

import pytest

from twinscale.benchmarks.peers import operations

JOB = {"batch": 2, "length": 4, "width": 8, "hidden": 16, "heads": 2, "shapes": [[3, 5], [7]]}


def test_costs_are_those_of_what_is_taken_and_given():
    """A product's gradient is two more of the same size, and what has a gradient gives one for each that it reads."""
    found = operations.operations(JOB)
    sizes = {name: sum(map(math.prod, each.takes)) for name, each in found.items()}
    assert found["product"].flops == 2 * 8 * 8 * 16 and found["product, gradient"].flops == 3 * found["product"].flops
    assert found["scores"].flops == 2 * (2 * 2 * 4) * 4 * 4
    assert found["product"].values == sizes["product"] + 8 * 16
    for name in ("layer norm", "softmax", "gelu", "product"):
        assert found[f"{name}, gradient"].values == 2 * sizes[f"{name}, gradient"], name
    assert found["softmax"].values == 2 * sizes["softmax"] == 2 * 2 * 2 * 4 * 4
    assert found["update"].values == 7 * (15 + 7)  # weight, two slots and a gradient in, all but the last out
    assert found["transposing copy"].takes == ((2, 4, 2, 4),)


def test_every_process_draws_the_same():
    first, second = (operations.arrays(JOB, "product, gradient") for _ in range(2))
    assert [x.shape for x in first] == [(8, 8), (8, 16), (8, 16)] and {str(x.dtype) for x in first} == {"float32"}
    assert all((x == y).all() for x, y in zip(first, second, strict=True))


def test_what_compiles_is_not_timed_and_happens_once(monkeypatch):
    """And what is freed is kept before anything is made."""
    made, called = [], []
    monkeypatch.setattr(operations.process, "keep_memory", lambda: called.append("kept"))

    def make(name, given):
        made.append(name)
        return lambda: called.append(name)

    seconds = operations.timed(JOB, make)
    assert seconds("gelu", 3) >= 0 and seconds("gelu", 2) >= 0 and seconds(name=operations.CALL, count=1) >= 0
    assert made == ["gelu", operations.CALL] and called == ["kept"] + ["gelu"] * 6 + [operations.CALL] * 2
    with pytest.raises(KeyError):
        seconds("nothing", 1)
