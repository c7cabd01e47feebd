"""Objectives: what a training minimises, a loss of each position. docs/adding.md says how to add one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from twinscale.common import losses
from twinscale.common.metrics import statistics_of
from twinscale.common.metrics.rows import of_classes, rows_of
from twinscale.common.own import OPTIONS, Function, Values
from twinscale.common.registry import Registry, load
from twinscale.common.section import Section, any_of

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe

OBJECTIVES = Registry("objectives", "objective.name", {
    "cross-entropy": "twinscale.common.objectives:CROSS_ENTROPY", "probe": "twinscale.common.objectives:PROBE",
    "squared-error": "twinscale.common.objectives:SQUARED_ERROR", "sigmoid": "twinscale.common.objectives:SIGMOID",
    "pair": "twinscale.common.objectives:PAIR"},
    "twinscale.common.objectives:Objective")


def with_names(schema: dict[str, Any]) -> None:
    """Says in a JSON schema which objectives are our own."""
    schema["properties"]["name"] |= any_of(OBJECTIVES)
    del schema["properties"]["name"]["type"]


class ObjectiveOptions(Section):
    """What is minimised, the mean over weighted positions; an objective's own options derive from this."""

    model_config = ConfigDict(title="Objective", json_schema_extra=with_names)

    name: str = "cross-entropy"


class PairObjective(ObjectiveOptions):
    """Losses of the user's own, a function of (outputs, labels) for each room: a loss of each row, or position."""

    name: str = "pair"
    keras: Function = Field(description="FILE.py:OBJECT of a function of Keras tensors")
    jax: Function = Field(description="FILE.py:OBJECT of a function of JAX arrays")
    options: Values = OPTIONS


@dataclass(frozen=True)
class Objective:
    """A loss of each position by its logits: both rooms add it up, weighed, and take the gradient of the sum."""

    title: str  # as people write it
    semantics: str  # what it is, in formulas: for a person
    keras: Callable | str  # (recipe, logits (..., classes), labels (...)) -> (...); may be "MODULE:OBJECT"
    jax: Callable | str
    options: type = ObjectiveOptions  # a class that derives from it; what a recipe says is its `objective`
    terms: tuple = ()  # keys of [train] that it reads and others do not
    # (xp, recipe, logits, labels) -> (...), over an array namespace: what evaluations add up, and then there are no
    # hits. None: its labels are classes, and evaluations say their cross-entropy and how many are hit.
    judged: Callable | None = None
    labels: bool = True  # whether it reads any
    whole: bool = False  # whether a loss may depend on where in its row a position is: no part of a row is judged alone
    adds: float = 0.0  # the largest factor by which it adds an output to a loss; 0: a loss is the size of an output
    theirs: bool = False  # whether it is the user's own on both sides, of which nothing is known


def described(recipe: "Recipe") -> Objective:
    """The Objective that a recipe names."""
    return load(OBJECTIVES, recipe.objective.name)


def judged(xp: Any, recipe: "Recipe", logits: Any, labels: Any, weights: Any
           ) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the sums that an evaluation adds up, what is predicted at each position where a metric is of classes) of a
    batch, or of a part of its positions; arguments as at `common.metrics.statistics`."""
    sums = losses.sums_of(described(recipe), xp, recipe, logits, labels, weights)
    rows = rows_of(xp, logits, labels) if of_classes(recipe.train.metrics) else {}
    return sums | statistics_of(recipe.train.metrics, xp, logits, labels, weights), rows


CROSS_ENTROPY = Objective(
    "cross-entropy", "against (1 - s) one-hot + s / classes (label smoothing s), plus z_loss logsumexp^2",
    "twinscale.tfscale.batch_loss:cross_entropy", "twinscale.jaxscale.batch_loss:cross_entropy",
    terms=("label_smoothing", "z_loss"))

PROBE = Objective(
    "probe", "sum of outputs times shared random signs, (+1 or -1) (0.5 + u) with u in [0, 1), that depend on the seed "
             "and the position within a row alone; labels are not read",
    "twinscale.tfscale.batch_loss:probe", "twinscale.jaxscale.batch_loss:probe", judged=losses.probe, labels=False,
    whole=True, adds=losses.LARGEST_SIGN)
SQUARED_ERROR = Objective(
    "squared error", "mean of (x - y)^2 over a position's outputs", "twinscale.tfscale.batch_loss:squared_error",
    "twinscale.jaxscale.batch_loss:squared_error", judged=losses.squared_error)
SIGMOID = Objective(
    "sigmoid", "mean of max(x, 0) - x y + log(1 + exp(-|x|)) over a position's outputs",
    "twinscale.tfscale.batch_loss:sigmoid", "twinscale.jaxscale.batch_loss:sigmoid", judged=losses.sigmoid)
PAIR = Objective(
    "your own pair", "what the user's functions of (outputs, labels) give, one for each room",
    partial(losses.own, "keras"), partial(losses.own, "jax"), PairObjective, judged=losses.own_of, whole=True,
    theirs=True)
