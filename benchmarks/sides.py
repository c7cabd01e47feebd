"""What stands on the two sides of a comparison, and what people read they are called.

By key the sides are "keras" and "jax" everywhere: that is what files and workers go by. Where two programs of one
framework are compared, a has the key of the first and b that of the second, both run in the framework's own room, and
nobody is told of the other framework: what is written for people goes through `LABELS` and `spoken`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twinscale.common.families.pair import is_of_one
from twinscale.common.registry import short

ROOMS = {"keras": "twinscale.tfscale", "jax": "twinscale.jaxscale"}
USUAL = {"keras": "Keras", "jax": "JAX"}
OF_ONE = {"keras": "a", "jax": "b"}  # which program of one framework has which key
LABELS = dict(USUAL)  # of the comparison that is made here: `labelled` changes it


def framework_of(model: Any) -> str | None:
    """The key of the backend that both programs of one framework run on; None of any other model."""
    return {"keras": "keras", "flax": "jax"}[model.framework] if is_of_one(model) else None


def rooms_of(model: Any) -> dict[str, str]:
    """{key: the module that runs this side}."""
    own = framework_of(model)
    return dict.fromkeys(ROOMS, ROOMS[own]) if own else dict(ROOMS)


def sides_of(model: Any) -> dict[str, str]:
    """{key: the model's `side` that this side trains}, of two programs of one framework; {} of any other model."""
    return dict(OF_ONE) if is_of_one(model) else {}


def titles_of(model: Any) -> dict[str, str]:
    """{key: what a verdict calls this side}, of two programs of one framework; {} of any other model."""
    return {key: f"{side} ({short(getattr(model, side))})" for key, side in sides_of(model).items()}


def who(model: Any) -> str:
    """Which program of a pair is called a, and which b."""
    if not is_of_one(model):
        return "a is the Keras model, b its port"
    return f"a is {short(model.a)}, b {short(model.b)}, both {USUAL[framework_of(model) or 'keras']}"


@contextmanager
def labelled(model: Any) -> Iterator[None]:
    """While open, sentences call the sides of a comparison of this model what they are."""
    LABELS.update(sides_of(model) or USUAL)
    try:
        yield
    finally:
        LABELS.update(USUAL)


def spoken(run: str) -> str:
    """A side's key or a run's, "keras" or "jax-twin", as lines of progress and checks have it."""
    key, dash, rest = run.partition("-")
    return LABELS[key].lower() + dash + rest if key in LABELS else run
