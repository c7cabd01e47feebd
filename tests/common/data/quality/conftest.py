"""A corpus with something planted for each kind of rule."""

import pytest

from twinscale.common.data.split import side

HELD_OUT = 0.3


def text_of(i, words=80):
    """A text of its own that no rule removes."""
    return " ".join(f"the{i} cat{j % 7}x{i * j} has found {i}m{j} and that." for j in range(words // 6))


@pytest.fixture(scope="session")
def texts():
    """(texts to train on, texts held out), by `HELD_OUT`."""
    found = {"train": [], "held_out": []}
    for i in range(60):
        found[side(text_of(i).encode(), HELD_OUT)].append(text_of(i))
    return found["train"], found["held_out"]


@pytest.fixture(scope="session")
def on_train():
    """on_train(make): the first of make(0), make(1), ... that is trained on."""
    return lambda make: next(text for text in map(make, range(1000)) if side(text.encode(), HELD_OUT) == "train")
