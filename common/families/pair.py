"""A pair: two programs of the user's, whose tensors a match says to be one another's: a Keras model and its port, or a
and b of one framework.

The tensors of the first are the canonical ones; the other is called with what the match makes of them. What happens
inside either is not known here, so the model is one place.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from twinscale.common.backends import BACKENDS
from twinscale.common.errors import BadInput, one_of
from twinscale.common.families import Family, Traits
from twinscale.common.families.parameters import Parameter
from twinscale.common.families.places import WHOLE
from twinscale.common.families.sharding import SHARED, Sharding
from twinscale.common.families.sharding import WHOLE as WHOLE_AXIS
from twinscale.common.files.access import exists, read_text
from twinscale.common.files.pins import pinned_file, unpinned
from twinscale.common.pairs.first import (
    CAME,
    Start,
    check_trained,
    first_shapes,
    first_tensors,
    first_value,
    is_checkpoint,
)
from twinscale.common.pairs.match import computes_in
from twinscale.common.registry import is_reference, pinned
from twinscale.common.section import FreeTable, Section

FRAMEWORKS = {"keras": "Keras", "flax": "JAX"}  # as a recipe names them, and what a program of each runs on
OF_ONE = ("a", "b", "framework", "side")  # keys of two programs of one framework
CHOICES = {"framework": ("", *FRAMEWORKS), "side": ("a", "b"), "dropout": ("off", "shared"),
           "weights_of": ("", "keras", "flax", "a", "b")}
BATCHES = ("inputs", "positions", "segments")  # what a batch of text or of images has that a program may ask for


def a_reference(name: str) -> str:
    """A reference whose FILE is pinned; it is loaded only by the process that runs it."""
    if not is_reference(name):
        raise ValueError(f'"{name}" names no program: write FILE.py:OBJECT or MODULE:OBJECT')
    return pinned(name)


def free(values: dict[str, Any]) -> FreeTable:
    """A table of options as it is kept: with tuples for lists."""
    return FreeTable({key: tuple(x) if isinstance(x, list) else x for key, x in values.items()})


def rules_of(values: dict[str, Any]) -> FreeTable:
    """A table of rules, {pattern: an axis of SHARED or WHOLE for each dimension}, as it is kept."""
    for pattern, axes in values.items():
        odd = [axis for axis in axes if axis not in (*SHARED, WHOLE_AXIS)]
        twice = [axis for axis in SHARED if list(axes).count(axis) > 1]
        if odd or twice:
            raise ValueError(f'"{pattern}" = {list(axes)}: ' + (
                f'"{odd[0]}": expected "fsdp", "tensor" or "", where a dimension is whole' if odd else
                f'"{twice[0]}" shares one dimension of a tensor alone'))
    return FreeTable({pattern: tuple(axes) for pattern, axes in values.items()})


class Sparing(Section):
    """A table that leaves out keys without a value: what is of one kind of pairs is no part of the other's recipes."""

    @model_serializer(mode="wrap")
    def spared(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of the other kind of pairs."""
        found = handler(self)
        of_one = getattr(self, "framework", "") or getattr(self, "a", "") or getattr(self, "b", "")
        other = ("keras", "flax") if of_one else OF_ONE
        return {key: value for key, value in found.items() if key not in other or value not in ("", "a")}


class Sides(Sparing):
    """What the two programs call one input or output; "" where there is only one."""

    keras: str = ""
    flax: str = ""
    a: str = ""
    b: str = ""


class Pair(Sparing):
    """Two programs of the user's: each is a function that builds and returns one. Of two frameworks they are `keras`
    and `flax`, of one `a` and `b`."""

    family: Literal["pair"]
    keras: Annotated[str, AfterValidator(a_reference)] = Field("", description="FILE.py:OBJECT or MODULE:OBJECT")
    flax: Annotated[str, AfterValidator(a_reference)] = Field("", description="FILE.py:OBJECT or MODULE:OBJECT")
    a: Annotated[str, AfterValidator(a_reference)] = Field("", description="of two programs of one framework, one")
    b: Annotated[str, AfterValidator(a_reference)] = Field("", description="the other, a refactor of it or a rewrite")
    framework: Literal["", "keras", "flax"] = Field("", description="of a and b: which both are of")
    side: Literal["a", "b"] = Field("a", description="of a and b: which one a training alone trains")
    options: Annotated[dict[str, bool | int | float | str | list[int | float | str] | tuple[int | float | str, ...]],
                       AfterValidator(free)] = Field(
        default_factory=FreeTable, description="keyword arguments of both")
    reads: Literal["text", "images", "arrays"] = Field(description="what a batch is of")
    inputs: Annotated[dict[str, Sides], AfterValidator(FreeTable)] = Field(
        default_factory=FreeTable, description="what is asked for of a batch, where that is not all that it has, and "
                                           "by which names")
    outputs: Sides = Field(Sides(), description="the outputs that are the logits, where there are several")
    dropout: Literal["off", "shared"] = Field("off", description="stock dropout of both sides in training: off, or of "
                                                                 "shared random bits, by the order of its calls")
    match: Annotated[str, AfterValidator(pinned_file)] = Field(
        description="which tensor is which: a file that `twinscale match` writes")
    weights: Annotated[str, AfterValidator(pinned_file)] = Field(
        description="first weights by the first program's names, or a checkpoint; unless said, those that are written "
                    "beside the match")
    weights_of: Literal["", "keras", "flax", "a", "b"] = Field(
        "", description="whose checkpoint it is, where it is one; unless said, the first program's")

    shard: Annotated[dict[str, list[str] | tuple[str, ...]], AfterValidator(rules_of)] = Field(
        default_factory=FreeTable, description="how tensors lie on devices that share them (JAX): by a pattern of the "
                                               'first program\'s names, "fsdp", "tensor" or "" for each dimension')

    @model_validator(mode="before")
    @classmethod
    def beside(cls, values: Any) -> Any:
        """First weights lie beside the match; where that is missing, nobody is asked for them besides."""
        if isinstance(values, dict) and "weights" not in values:
            match = values.get("match")
            beside = unpinned(match if isinstance(match, str) and match else "match.toml")
            return values | {"weights": str(beside.with_suffix(".safetensors"))}
        return values

    @property
    def start(self) -> Start:
        """What both programs begin with."""
        return Start(self.weights, self.match, self.weights_of)

    @model_validator(mode="after")
    def two(self) -> Self:
        """Raises ValueError where there are not two programs."""
        first, second = wanted = sides_of(self)
        given = [key for key in ("keras", "flax", "a", "b") if getattr(self, key)]
        if odd := [key for key in given if key not in wanted]:
            raise ValueError(f"model.{odd[0]}: a pair is of keras and flax, or of a and b, two programs of one "
                             f"framework: here are {', '.join(given)}")
        if missing := [key for key in wanted if key not in given]:
            raise ValueError(f'model.{missing[0]}: missing; add model.{missing[0]} = "FILE.py:OBJECT"')
        if first == "a" and not self.framework:
            raise ValueError('model.framework: missing; say which one a and b are of: framework = "keras" or "flax"')
        odd = [f"{table}.{key}" for table, sides in [("outputs", self.outputs), *(
            (f"inputs.{name}", sides) for name, sides in self.inputs.items())]
            for key in ("keras", "flax", "a", "b") if key not in wanted and getattr(sides, key)]
        if odd:
            raise ValueError(f"model.{odd[0]}: the programs of this pair are {first} and {second}")
        return self

    @model_validator(mode="after")
    def asks(self) -> Self:
        """Raises ValueError where more is asked for than a batch has; of arrays the data's own are not known here."""
        odd = [name for name in self.inputs if self.reads != "arrays" and name not in BATCHES]
        if odd:
            raise ValueError(f"model.inputs.{odd[0]}: a batch of {self.reads} has no such array: it has "
                             f'{", ".join(BATCHES)}; model.reads = "arrays" is for those of your own')
        return self


def sides_of(m: Pair) -> tuple[str, str]:
    """What a recipe calls the two programs, the one whose tensors are the canonical ones first."""
    return ("a", "b") if m.framework or m.a or m.b else ("keras", "flax")


def side_in(m: Pair, framework: str) -> str:
    """Which of a pair's programs a process of a framework of FRAMEWORKS runs. Raises BadInput where it runs none."""
    if sides_of(m) == ("keras", "flax"):
        return framework
    if one_of(FRAMEWORKS, m.framework, "model.framework") != FRAMEWORKS[framework]:
        other = {"keras": "jax", "flax": "keras"}[framework]
        raise BadInput(f'model.framework = "{m.framework}": both programs of this pair are of it, and none runs on '
                       f"{FRAMEWORKS[framework]}: take --backend {other}")
    return one_of({side: side for side in sides_of(m)}, m.side, "model.side")


def is_of_one(m: Any) -> bool:
    """Whether a recipe's model is two programs of one framework."""
    return isinstance(m, Pair) and sides_of(m) == ("a", "b")


def check_backend(m: Any, backend: str) -> None:
    """Raises BadInput where a backend runs none of a model's programs."""
    if is_of_one(m):
        side_in(m, {"keras": "keras", "jax": "flax"}[BACKENDS[backend].program])


def refuse_of_one(m: Any, verb: str, why: str) -> None:
    """Raises BadInput, for a verb or an option that takes no pair of one framework, where the model is one."""
    if is_of_one(m):
        raise BadInput(f'model.framework = "{m.framework}": {verb} takes no two programs of one framework: {why}')


def check_names(m: Pair) -> None:
    """Raises BadInput where a key has a name that the schema alone knows."""
    for key, known in CHOICES.items():
        one_of(dict.fromkeys(known), getattr(m, key), f"model.{key}")


def whence(m: Pair) -> str:
    """Where a pair's first weights come from, in words."""
    path = unpinned(m.weights)
    if is_checkpoint(path):
        of = {"keras": "the Keras model", "flax": "its port"}
        side = m.weights_of or sides_of(m)[0]
        return f"the checkpoint {path.name}, of {of.get(side, side)}"
    match = unpinned(m.match)
    lines = read_text(match).splitlines() if exists(match) else []
    return next((line.removeprefix(CAME).removesuffix(".") for line in lines if line.startswith(CAME)), path.name)


def tree_of(m: Pair, classes: int, example_shape: Sequence[int]) -> dict[str, Any]:
    """The tensors of the first program, as the file of first weights has them. Raises BadInput where none is
    trained."""
    check_names(m)
    check_trained(first_tensors(m.start), sides_of(m)[0])
    return {name: Parameter(shape, start=partial(first_value, m.start, name))
            for name, shape in first_shapes(m.start).items()}


def places(m: Pair, place: Callable) -> None:
    """The model as a whole."""
    place("head", WHOLE, holds="")


def traits(m: Pair) -> Traits:
    """What moves without being trained are taken for running statistics, of which every micro-batch has its own."""
    check_names(m)
    moved = any(not tensor.trained for tensor in first_tensors(m.start))
    rules = tuple((pattern.replace("/", "."), tuple(axes)) for pattern, axes in m.shard.items())
    return Traits(norm="batch" if moved else "", foreign=True, computes=computes_in(unpinned(m.match)),
                  sharding=Sharding(rules, first_shapes(m.start)))


FAMILY = Family(name="pair", options=Pair, reads=lambda m: m.reads, tree=tree_of, places=places, traits=traits,
                draws=lambda m: m.dropout == "shared")
