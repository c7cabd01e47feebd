"""The canonical places of a model: every operation whose output both backends show, in forward order.

A place is named as in the parameter tree; the operation at `block_0.norm_1` holds the tensors `block_0.norm_1.*`.
A Keras layer's name is its place; Flax modules name theirs with `tap`.
"""

from dataclasses import dataclass

from twinscale.common.families import family_of


@dataclass(frozen=True)
class Place:
    """One operation: its class, the places whose outputs it reads, and the place whose tensors it holds."""

    operation: str
    reads: tuple = ()
    holds: str = ""


def places(model):
    """{name: Place} of a model section of the recipe, in forward order; the last is "head", which gives the logits."""
    found = {}

    def place(name, operation, *reads, holds=None):
        found[name] = Place(operation, reads, name if holds is None else holds)
        return name

    family_of(model).places(model, place)
    return found


def draws(model):
    """Whether any place of a model section draws random bits in training."""
    return any(place.operation == "random bits" for place in places(model).values())
