"""What stands on the two sides of a comparison, and what people read they are called.

By key the sides are "keras" and "jax" everywhere: that is what files and workers go by. Where two programs of one
framework are compared, a has the key of the first and b that of the second, both run in the framework's own room, and
nobody is told of the other framework: what is written for people goes through `LABELS`, checks and sentences of a
verdict, and `spoken`, the beginnings of lines of progress.

A column is a program on a runtime. Two of them stand on the two sides too, the first with the key "keras", the second
with "jax", whatever they are: a `ColumnPair` says which, and () is the usual one, Keras and JAX.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twinscale.common.backends import BACKENDS, RUNTIMES, module_of
from twinscale.common.families.pair import is_of_one
from twinscale.common.registry import short


@dataclass(frozen=True)
class Column:
    """A program on a runtime: what people read that it is called, and the module that runs it."""

    title: str
    room: str
    program: str
    runtime: str


PROGRAMS = {"keras": "Keras", "jax": "Flax"}
COLUMNS = {name: Column(f"{PROGRAMS[backend.program]} on {RUNTIMES[backend.runtime]}", module_of(name), backend.program,
                        backend.runtime) for name, backend in BACKENDS.items()}
ColumnPair = tuple[str, ...]  # the ids of two columns, or () of the usual ones
USUAL = {"keras": "Keras", "jax": "JAX"}
ROOMS = {key: COLUMNS[key].room for key in USUAL}
OF_ONE = {"keras": "a", "jax": "b"}  # which program of one framework has which key
LABELS = dict(USUAL)  # of the comparison that is made here: `labelled` changes it
SPOKEN = {key: key for key in USUAL}  # the same in lines of progress and errors: short, and of columns their ids
HERE = {key: key for key in USUAL}  # the ids of that comparison's columns


def framework_of(model: Any) -> str | None:
    """The key of the backend that both programs of one framework run on; None of any other model."""
    return {"keras": "keras", "flax": "jax"}[model.framework] if is_of_one(model) else None


def ids_of(pair: ColumnPair = ()) -> dict[str, str]:
    """{key: the id of the column that this side is}."""
    return dict(zip(USUAL, pair or USUAL, strict=True))


def differ_in_one(pair: ColumnPair) -> bool:
    """Whether two columns share the program or the runtime, so that one thing alone can part them."""
    one, other = (COLUMNS[name] for name in pair)
    return one.program == other.program or one.runtime == other.runtime


def rooms_of(model: Any, pair: ColumnPair = ()) -> dict[str, str]:
    """{key: the module that runs this side}."""
    own = framework_of(model)
    return dict.fromkeys(ROOMS, ROOMS[own]) if own else {key: COLUMNS[name].room for key, name in ids_of(pair).items()}


def sides_of(model: Any) -> dict[str, str]:
    """{key: the model's `side` that this side trains}, of two programs of one framework; {} of any other model."""
    return dict(OF_ONE) if is_of_one(model) else {}


def titles_of(model: Any, pair: ColumnPair = ()) -> dict[str, str]:
    """{key: what a verdict calls this side}, of a pair of columns, or of two programs of one framework; {} where they
    are Keras and JAX."""
    if pair:
        return {key: COLUMNS[name].title for key, name in ids_of(pair).items()}
    return {key: f"{side} ({short(getattr(model, side))})" for key, side in sides_of(model).items()}


def who(model: Any) -> str:
    """Which program of a pair is called a, and which b; of two columns that are compared, which column."""
    if not is_of_one(model):
        return "a is the Keras model, b its port" if LABELS == USUAL else "a is {}, b {}".format(*LABELS.values())
    return f"a is {short(model.a)}, b {short(model.b)}, both {USUAL[framework_of(model) or 'keras']}"


@contextmanager
def labelled(model: Any, pair: ColumnPair = ()) -> Iterator[None]:
    """While open, sentences call the sides of a comparison of this model, or of a pair of columns, what they are."""
    labels = titles_of(model, pair) if pair else sides_of(model) or USUAL
    LABELS.update(labels)
    SPOKEN.update(ids_of(pair) if pair else {key: label.lower() for key, label in labels.items()})
    HERE.update(ids_of(pair))
    try:
        yield
    finally:
        LABELS.update(USUAL)
        for names in (SPOKEN, HERE):
            names.update(ids_of())


def spoken(run: str) -> str:
    """A side's key or a run's, "keras" or "jax-twin", as lines of progress and errors have it."""
    key, dash, rest = run.partition("-")
    return SPOKEN[key] + dash + rest if key in SPOKEN else run


def runtime_of(key: str) -> str:
    """The backend whose meshes a side trains on: "keras" on TensorFlow, "jax" on JAX."""
    return {"tensorflow": "keras", "jax": "jax"}[COLUMNS[HERE[key]].runtime]
