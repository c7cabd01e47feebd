"""A pair: a Keras model and its port, both the user's own, whose tensors a match says to be one another's.

The tensors of the Keras model are the canonical ones; the other program is called with what the match makes of them.
What happens inside either is not known here, so the model is one place.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from twinscale.common.families import Family
from twinscale.common.families.parameters import Parameter
from twinscale.common.families.places import WHOLE
from twinscale.common.files.pins import pinned_file, unpinned
from twinscale.common.pairs.first import first_shapes, first_value
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
        description="first weights by the Keras model's names; unless said, those that are written beside the match")

    @model_validator(mode="before")
    @classmethod
    def beside(cls, values: Any) -> Any:
        """First weights lie beside the match; where that is missing, nobody is asked for them besides."""
        if isinstance(values, dict) and "weights" not in values:
            match = values.get("match")
            beside = unpinned(match if isinstance(match, str) and match else "match.toml")
            return values | {"weights": str(beside.with_suffix(".safetensors"))}
        return values

    @model_validator(mode="after")
    def asks(self) -> Self:
        """Raises ValueError where more is asked for than a batch has; of arrays the data's own are not known here."""
        odd = [name for name in self.inputs if self.reads != "arrays" and name not in BATCHES]
        if odd:
            raise ValueError(f"model.inputs.{odd[0]}: a batch of {self.reads} has no such array: it has "
                             f'{", ".join(BATCHES)}; model.reads = "arrays" is for those of your own')
        return self


def tree_of(m: Pair, classes: int, example_shape: Sequence[int]) -> dict[str, Any]:
    """The tensors of the Keras model, as the file of first weights has them."""
    return {name: Parameter(shape, start=partial(first_value, m.weights, name))
            for name, shape in first_shapes(m.weights).items()}


def places(m: Pair, place: Callable) -> None:
    """The model as a whole."""
    place("head", WHOLE, holds="")


FAMILY = Family(name="pair", options=Pair, reads=lambda m: m.reads, tree=tree_of, places=places)
