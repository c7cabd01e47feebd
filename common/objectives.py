"""Objectives: what a training minimises, a loss of each position. docs/adding.md says how to add one."""

from collections.abc import Callable
from dataclasses import dataclass

from twinscale.common.registry import Registry, load

OBJECTIVES = Registry("objectives", "train.objective", {
    "cross-entropy": "twinscale.common.objectives:CROSS_ENTROPY"}, "twinscale.common.objectives:Objective")


@dataclass(frozen=True)
class Objective:
    """A loss of each position by its logits: both rooms add it up, weighed, and take the gradient of the sum."""

    title: str  # as people write it
    semantics: str  # what it is, in formulas: for a person
    keras: Callable | str  # (recipe, logits (..., classes), labels (...)) -> (...); may be "MODULE:OBJECT"
    jax: Callable | str
    terms: tuple = ()  # keys of [train] that it reads and others do not


def described(recipe):
    """The Objective that a recipe names."""
    return load(OBJECTIVES, recipe.train.objective)


CROSS_ENTROPY = Objective(
    "cross-entropy", "against (1 - s) one-hot + s / classes (label smoothing s), plus z_loss logsumexp^2",
    "twinscale.tfscale.train:cross_entropy", "twinscale.jaxscale.train:cross_entropy", ("label_smoothing", "z_loss"))
