"""Distillation in Keras 3; the semantics is written at `common.recipe.schema.Distil`."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from twinscale.common.compress.recipes import active, teacher_model
from twinscale.common.compress.rules import matched_blocks
from twinscale.tfscale import batch_loss
from twinscale.tfscale.taps import tapped

if TYPE_CHECKING:
    from twinscale.common.recipe.schema import Recipe


def distil_objective(recipe: "Recipe", state: Any, running: Sequence[tf.Tensor], batch: Mapping[str, tf.Tensor],
                     key: tf.Tensor) -> tuple[tf.Tensor, Sequence[tf.Tensor], dict[str, tf.Tensor]]:
    """As `tfscale.train.plain_objective`, of a state that has a teacher."""
    student, teacher, model = {}, {}, state.model
    with ExitStack() as taps:
        if active(recipe).hidden or active(recipe).attention:
            taps.enter_context(tapped(model, keep(student)))
            taps.enter_context(tapped(state.teacher, keep(teacher)))
        student["logits"], running = model.stateless_call(
            model.trainable_variables, running, batch_loss.model_inputs(recipe, batch, key), training=True)
        # The teacher's variables are none of those that are trained: no gradient reaches them.
        teacher["logits"] = state.teacher(batch_loss.model_inputs(teacher_recipe(recipe), batch, key), training=False)
    objective, sums = distil_sums(recipe, student, teacher, batch)
    return objective, running, sums


def keep(found: dict[str, tf.Tensor]) -> Callable[[str, tf.Tensor], tf.Tensor]:
    """A hook that notes what each place computes."""

    def hook(place, x):
        found[place] = x
        return x

    return hook


def teacher_recipe(recipe: "Recipe") -> "Recipe":
    """A stage's recipe with the teacher's model."""
    return recipe.model_copy(update={"model": teacher_model(recipe)})


def distil_sums(recipe: "Recipe", student: Mapping[str, tf.Tensor], teacher: Mapping[str, tf.Tensor],
                batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
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
    objective, sums = batch_loss.loss_sums(recipe, logits, batch)
    losses = tf.zeros_like(logits[..., 0])
    if stage.logits:
        log_p, log_q = (tf.nn.log_softmax(x["logits"] / stage.temperature) for x in (teacher, student))
        losses += stage.logits * stage.temperature**2 * divergence(tf.exp(log_p), log_p, log_q)
    matched = stage.hidden or stage.attention
    blocks = matched_blocks(model.layers, teacher_model(recipe).layers) if matched else ()
    for i, j in blocks:
        if stage.hidden:
            ours, theirs = (tf.cast(x, logits.dtype) for x in (student[f"block_{i}.residual_2"],
                                                               teacher[f"block_{j}.residual_2"]))
            losses += stage.hidden / len(blocks) * tf.reduce_mean(tf.square(ours - theirs), -1)
        if stage.attention:
            # Heads in groups, which the two may share out otherwise.
            q, p = (tf.reshape(x, (-1, model.heads, *x.shape[3:])) for x in (
                student[f"block_{i}.attention.shares"], teacher[f"block_{j}.attention.shares"]))
            log_p, log_q = (tf.math.log(tf.maximum(x, x.dtype.as_numpy_dtype(np.finfo(x.dtype.as_numpy_dtype).tiny)))
                            for x in (p, q))
            losses += stage.attention / len(blocks) * tf.reduce_mean(divergence(p, log_p, log_q), 1)
    objective = stage.labels * objective + tf.reduce_sum(tf.cast(batch["weights"], logits.dtype) * losses)
    return objective, sums | {"loss": objective}


def divergence(shares: tf.Tensor, teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
    """KL(teacher || student) over the last axis, of the teacher's shares and the logarithms of both's."""
    return tf.reduce_sum(shares * (teacher - student), -1)
