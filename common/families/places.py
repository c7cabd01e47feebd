"""The canonical places of a model: every operation whose output both backends show, in forward order.

A place is named as in the parameter tree; the operation at `block_0.norm_1` holds the tensors `block_0.norm_1.*`.
A Keras layer's name is its place; Flax modules name theirs with `tap`.
"""

from dataclasses import dataclass
from typing import Any

from twinscale.common.errors import BadInput, did_you_mean
from twinscale.common.families import family_of

# What an operation may be: `common/operations/rounding.py` knows how far each may round.
OPERATIONS = ("embedding", "sum", "residual", "gate", "linear", "convolution", "pooling", "max pooling", "norm",
              "activation", "rotary positions", "attention scores", "attention mask", "softmax", "attention mix",
              "random bits", "bias")
WHOLE = "program"  # a model whose operations are not known: what it may round to is measured, not derived


@dataclass(frozen=True)
class Place:
    """One operation: its class, the places whose outputs it reads, the place whose tensors it holds, and what its norm
    or activation is called, where that is not what the model's others are."""

    operation: str
    reads: tuple = ()
    holds: str = ""
    kind: str = ""


def places(model: Any) -> dict[str, Place]:
    """{name: Place} of a model section of the recipe, in forward order; the last is "head", which gives the logits.

    Raises BadInput where a family describes what cannot be.
    """
    found, family = {}, family_of(model)

    def place(name, operation, *reads, holds=None, kind=""):
        where = f"family {family.name}: place {name}"
        if operation not in (*OPERATIONS, WHOLE):
            raise BadInput(f'{where}: operation "{operation}": known are {", ".join(OPERATIONS)}'
                           + did_you_mean(operation, OPERATIONS))
        if name in found or not found.keys() >= set(reads):
            raise BadInput(f"{where}: " + ("is there twice" if name in found else
                                           f"reads {', '.join(set(reads) - found.keys())}, which is not before it"))
        found[name] = Place(operation, reads, name if holds is None else holds, kind)
        return name

    family.places(model, place)
    if (last := next(reversed(found), "")) != "head":
        raise BadInput(f'family {family.name}: its last place is "{last}", but it has to be "head"')
    return found


def draws(model: Any) -> bool:
    """Whether any place of a model section draws random bits in training, or programs of the user's do."""
    return family_of(model).draws(model) or any(place.operation == "random bits" for place in places(model).values())


def is_whole(model: Any) -> bool:
    """Whether a model section's operations are not known, so that its modules are looked at while it runs."""
    return any(place.operation == WHOLE for place in places(model).values())
