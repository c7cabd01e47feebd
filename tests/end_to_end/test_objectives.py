"""Objectives without classes, as both rooms have them."""

import numpy as np
import pytest

from twinscale.common import losses
from twinscale.common.numbers.formats import EPS, MASTERS

ROWS, POSITIONS, OUTPUTS = 3, 4, 5


def gradients(name, recipe, logits, labels):
    """(loss, gradient by the logits) of a room's `loss_sums`."""
    batch = {"labels": labels, "weights": np.ones(labels.shape[:1], np.float32)}
    if name == "tfscale":
        import tensorflow as tf

        from twinscale.tfscale.batch_loss import loss_sums

        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            total, _ = loss_sums(recipe, x, {key: tf.constant(value) for key, value in batch.items()})
        return total.numpy(), tape.gradient(total, x).numpy()
    import jax

    from twinscale.jaxscale.batch_loss import loss_sums

    with jax.enable_x64(logits.dtype == np.float64):
        total, gradient = jax.value_and_grad(lambda x: loss_sums(recipe, x, batch)[0])(logits)
        return np.asarray(total), np.asarray(gradient)


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("objective", ["probe", "squared-error", "sigmoid"])
def test_both_rooms_have_one_loss_and_a_gradient_in_every_output(recipe_of, objective, precision):
    recipe = recipe_of("mlp", objective={"name": objective}, train={"precision": precision})
    dtype, drawn = MASTERS[precision], np.random.default_rng(1)
    shape = (ROWS, POSITIONS, OUTPUTS)
    logits, labels = drawn.standard_normal(shape).astype(dtype), drawn.random(shape).astype(np.float32)
    (ours, by_ours), (theirs, by_theirs) = (gradients(name, recipe, logits, labels) for name in ("tfscale", "jaxscale"))
    assert by_ours.dtype == by_theirs.dtype == dtype and (by_ours != 0).all()
    assert abs(ours - theirs) <= 2 * logits.size * EPS[dtype] * np.abs(logits).max()
    if objective == "probe":  # nothing but signs, over a mean of positions: equal to the bit
        signs = np.broadcast_to(losses.signs(recipe.seed, shape[1:]).astype(dtype) / POSITIONS, shape)
        assert by_ours.tobytes() == by_theirs.tobytes() == np.ascontiguousarray(signs).tobytes()
    else:
        assert np.abs(by_ours - by_theirs).max() <= 8 * EPS[dtype] * np.abs(by_ours).max()


@pytest.mark.parametrize("objective", ["probe", "squared-error"])
def test_a_step_and_an_evaluation_of_both_rooms_are_of_the_objective(open_room, recipe_of, objective):
    recipe, found = recipe_of("mlp", objective={"name": objective}, train={"steps": 2}), {}
    for name in ("tfscale", "jaxscale"):
        with open_room(name, recipe) as opened:
            evaluate, step = (make(recipe, opened.state, opened.devices) for make in (
                opened.room.make_evaluate, opened.room.make_step))
            sums = evaluate(opened.state, [opened.batch()])
            state, metrics = step(opened.state, 0, opened.batch())
            found[name] = float(metrics["loss"]), sums, evaluate(state, [opened.batch()])["loss"]
    (loss, sums, after), (lost, others, then) = found.values()
    assert abs(loss - sums["loss"] / sums["weight"]) < 1e-12 * abs(loss) + 1e-13  # the mean that training takes
    assert sums.keys() == others.keys() == {"loss", "weight"} and "accuracy" not in metrics
    for one, other in ((loss, lost), (sums["loss"], others["loss"]), (after, then)):
        assert abs(one - other) <= 1e-10 * max(abs(one), 1)
    assert after < sums["loss"]  # what a step minimises


@pytest.mark.parametrize("how", ["op", "activation", "layer"])
def test_a_program_that_ends_with_a_softmax_is_trained_as_one_on_tensorflow_too(how):
    """Keras' own cross-entropy would take the softmax back, in a graph by its operation and by a mark that Keras
    leaves: the same program in another framework would train otherwise."""
    import keras
    import tensorflow as tf

    from twinscale.tfscale.batch_loss import negative_log_likelihood

    softmax = {"op": keras.ops.softmax, "activation": keras.activations.softmax,
               "layer": keras.layers.Activation("softmax", dtype="float64")}[how]
    x, labels = np.random.default_rng(1).normal(size=(ROWS, OUTPUTS)), np.arange(ROWS, dtype=np.int32)
    found = tf.function(lambda x: negative_log_likelihood(softmax(x), labels))(tf.constant(x))

    def chances(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    wanted = -np.log(chances(chances(x))[np.arange(ROWS), labels])
    np.testing.assert_allclose(found, wanted, rtol=64 * EPS["float64"])
