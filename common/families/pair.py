"""A pair: a Keras model and its port, both the user's own, whose tensors a match says to be one another's.

The tensors of the Keras model are the canonical ones; the other program is called with what the match makes of them.
What happens inside either is not known here, so the model is one place.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from twinscale.common.families import Family, Traits
from twinscale.common.families.parameters import Parameter
from twinscale.common.families.places import WHOLE
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
from twinscale.common.registry import is_reference, pinned
from twinscale.common.section import FreeTable, Section

BATCHES = ("inputs", "positions", "segments")  # what a batch of text or of images has that a program may ask for


def a_reference(name: str) -> str:
    """A reference whose FILE is pinned; it is loaded only by the process that runs it."""
    if not is_reference(name):
        raise ValueError(f'"{name}" names no program: write FILE.py:OBJECT or MODULE:OBJECT')
    return pinned(name)


def free(values: dict[str, Any]) -> FreeTable:
    """A table of options as it is kept: with tuples for lists."""
    return FreeTable({key: tuple(x) if isinstance(x, list) else x for key, x in values.items()})


class Sides(Section):
    """What the two programs call one input or output; "" where there is only one."""

    keras: str = ""
    flax: str = ""


class Pair(Section):
    """Two programs of the user's: each is a function that builds and returns one."""

    family: Literal["pair"]
    keras: Annotated[str, AfterValidator(a_reference)] = Field(description="FILE.py:OBJECT or MODULE:OBJECT")
    flax: Annotated[str, AfterValidator(a_reference)] = Field(description="FILE.py:OBJECT or MODULE:OBJECT")
    options: Annotated[dict[str, bool | int | float | str | list[int | float | str] | tuple[int | float | str, ...]],
                       AfterValidator(free)] = Field(
        default_factory=FreeTable, description="keyword arguments of both")
    reads: Literal["text", "images", "arrays"] = Field(description="what a batch is of")
    inputs: Annotated[dict[str, Sides], AfterValidator(FreeTable)] = Field(
        default_factory=FreeTable, description="what is asked for of a batch, where that is not all that it has, and "
                                           "by which names")
    outputs: Sides = Field(Sides(), description="the outputs that are the logits, where there are several")
    match: Annotated[str, AfterValidator(pinned_file)] = Field(
        description="which tensor is which: a file that `twinscale match` writes")
    weights: Annotated[str, AfterValidator(pinned_file)] = Field(
        description="first weights by the Keras model's names, or a checkpoint; unless said, those that are written "
                    "beside the match")
    weights_of: Literal["keras", "flax"] = Field("keras", description="whose checkpoint it is, where it is one")

    @model_validator(mode="before")
    @classmethod
    def beside(cls, values: Any) -> Any:
        """First weights lie beside the match."""
        if isinstance(values, dict) and isinstance(match := values.get("match"), str) and "weights" not in values:
            return values | {"weights": str(unpinned(match).with_suffix(".safetensors"))}
        return values

    @property
    def start(self) -> Start:
        """What both programs begin with."""
        return Start(self.weights, self.match, self.weights_of)

    @model_validator(mode="after")
    def asks(self) -> Self:
        """Raises ValueError where more is asked for than a batch has; of arrays the data's own are not known here."""
        odd = [name for name in self.inputs if self.reads != "arrays" and name not in BATCHES]
        if odd:
            raise ValueError(f"model.inputs.{odd[0]}: a batch of {self.reads} has no such array: it has "
                             f'{", ".join(BATCHES)}; model.reads = "arrays" is for those of your own')
        return self


def whence(m: Pair) -> str:
    """Where a pair's first weights come from, in words."""
    path = unpinned(m.weights)
    if is_checkpoint(path):
        return f"the checkpoint {path.name}, of {'the Keras model' if m.weights_of == 'keras' else 'its port'}"
    match = unpinned(m.match)
    lines = read_text(match).splitlines() if exists(match) else []
    return next((line.removeprefix(CAME).removesuffix(".") for line in lines if line.startswith(CAME)), path.name)


def tree_of(m: Pair, classes: int, example_shape: Sequence[int]) -> dict[str, Any]:
    """The tensors of the Keras model, as the file of first weights has them. Raises BadInput where none is trained."""
    check_trained(first_tensors(m.start))
    return {name: Parameter(shape, start=partial(first_value, m.start, name))
            for name, shape in first_shapes(m.start).items()}


def places(m: Pair, place: Callable) -> None:
    """The model as a whole."""
    place("head", WHOLE, holds="")


def traits(m: Pair) -> Traits:
    """What moves without being trained are taken for running statistics, of which every micro-batch has its own."""
    moved = any(not tensor.trained for tensor in first_tensors(m.start))
    return Traits(norm="batch" if moved else "", foreign=True)


FAMILY = Family(name="pair", options=Pair, reads=lambda m: m.reads, tree=tree_of, places=places, traits=traits)
