"""Distillation in JAX; the semantics is written at `common.recipe.schema.Distil`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from twinscale.common.compress.recipes import active, teacher_model
from twinscale.common.compress.rules import matched_blocks
from twinscale.common.families.parameters import is_trained
from twinscale.jaxscale import batch_loss, train
from twinscale.jaxscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def distil_objective(recipe: "Recipe", state: train.State, weights: Mapping[str, jax.Array],
                     running: dict[str, jax.Array], batch: Mapping[str, jax.Array], key: jax.Array
                     ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, jax.Array]]]:
    """As `jaxscale.train.plain_objective`, of a state that has a teacher."""
    student, teacher = {}, {}
    taught = {name.removeprefix("teacher."): x for name, x in running.items() if name.startswith("teacher.")}
    own = {name: x for name, x in running.items() if not name.startswith("teacher.")}
    with tapped(None, keep(student)):
        inputs = batch_loss.model_inputs(recipe, batch, key)
        student["logits"], after = train.forward(recipe, state.graph, weights, own, inputs, training=True)
    with tapped(None, keep(teacher)):
        inputs = batch_loss.model_inputs(teacher_recipe(recipe), batch, key)
        teacher["logits"], _ = train.forward(recipe, state.teacher, *parted(taught), inputs)
    total, sums = distil_sums(recipe, student, teacher, batch)
    return total, (running | after, sums)


def keep(found: dict[str, jax.Array]) -> Callable[[str, jax.Array], jax.Array]:
    """A hook that notes what each place computes."""

    def hook(name, x):
        found[name] = x
        return x

    return hook


def parted(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(weights, running statistics) of {canonical name: tensor} of a model."""
    return ({name: x for name, x in tensors.items() if is_trained(name)},
            {name: x for name, x in tensors.items() if not is_trained(name)})


def teacher_recipe(recipe: "Recipe") -> "Recipe":
    """A stage's recipe with the teacher's model."""
    return recipe.model_copy(update={"model": teacher_model(recipe)})


def distil_sums(recipe: "Recipe", student: Mapping[str, jax.Array], teacher: Mapping[str, jax.Array],
                batch: Mapping[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective of distillation summed over weighted positions, and the sums of {"loss", "correct", "weight"}, of
    which "loss" is the objective.

    Args:
      recipe: the stage's.
      student, teacher: {"logits": (..., classes)}, and where asked for {"block_i.residual_2": (B, T, D),
        "block_i.attention.shares": (B, K, H / K, T, T)}.
      batch: the batch, whose "weights" are of the positions (...).
    """
    stage, logits = active(recipe), student["logits"]
    model: Any = recipe.model  # a decoder, where layers are matched
    total, sums = batch_loss.loss_sums(recipe, logits, batch)
    log_p, log_q = (jax.nn.log_softmax(x["logits"] / stage.temperature) for x in (teacher, student))
    losses = stage.logits * stage.temperature**2 * divergence(jnp.exp(log_p), log_p, log_q)
    matched = stage.hidden or stage.attention
    blocks = matched_blocks(model.layers, teacher_model(recipe).layers) if matched else ()
    for i, j in blocks:
        if stage.hidden:
            ours, theirs = (x.astype(logits.dtype) for x in (student[f"block_{i}.residual_2"],
                                                             teacher[f"block_{j}.residual_2"]))
            losses += stage.hidden / len(blocks) * jnp.mean(jnp.square(ours - theirs), -1)
        if stage.attention:
            # Heads in groups, which the two may share out otherwise.
            q, p = (x.reshape(x.shape[0], -1, *x.shape[3:]) for x in (
                student[f"block_{i}.attention.shares"], teacher[f"block_{j}.attention.shares"]))
            log_p, log_q = (jnp.log(jnp.maximum(x, jnp.finfo(x.dtype).tiny)) for x in (p, q))
            losses += stage.attention / len(blocks) * jnp.mean(divergence(p, log_p, log_q), 1)
    total = stage.labels * total + jnp.sum(batch["weights"].astype(logits.dtype) * losses)
    return total, sums | {"loss": total}


def divergence(shares: jax.Array, teacher: jax.Array, student: jax.Array) -> jax.Array:
    """KL(teacher || student) over the last axis, of the teacher's shares and the logarithms of both's."""
    return jnp.sum(shares * (teacher - student), -1)
