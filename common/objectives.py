"""Objectives: what a training minimises, a loss of each position. docs/adding.md says how to add one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from twinscale.common.registry import Registry, load
from twinscale.common.section import Section, any_of

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

OBJECTIVES = Registry("objectives", "objective.name", {
    "cross-entropy": "twinscale.common.objectives:CROSS_ENTROPY"}, "twinscale.common.objectives:Objective")


def with_names(schema: dict[str, Any]) -> None:
    """Says in a JSON schema which objectives are our own."""
    schema["properties"]["name"] |= any_of(OBJECTIVES)
    del schema["properties"]["name"]["type"]


class ObjectiveOptions(Section):
    """What is minimised, the mean over weighted positions; an objective's own options derive from this."""

    model_config = ConfigDict(title="Objective", json_schema_extra=with_names)

    name: str = "cross-entropy"


@dataclass(frozen=True)
class Objective:
    """A loss of each position by its logits: both rooms add it up, weighed, and take the gradient of the sum."""

    title: str  # as people write it
    semantics: str  # what it is, in formulas: for a person
    keras: Callable | str  # (recipe, logits (..., classes), labels (...)) -> (...); may be "MODULE:OBJECT"
    jax: Callable | str
    options: type = ObjectiveOptions  # a class that derives from it; what a recipe says is its `objective`
    terms: tuple = ()  # keys of [train] that it reads and others do not


def described(recipe: "Recipe") -> Objective:
    """The Objective that a recipe names."""
    return load(OBJECTIVES, recipe.objective.name)


CROSS_ENTROPY = Objective(
    "cross-entropy", "against (1 - s) one-hot + s / classes (label smoothing s), plus z_loss logsumexp^2",
    "twinscale.tfscale.train:cross_entropy", "twinscale.jaxscale.train:cross_entropy",
    terms=("label_smoothing", "z_loss"))
