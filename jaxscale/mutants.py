"""Semantic errors and harmless changes to plant in this backend; see `common/planted/mutants.py`."""

from collections.abc import Iterator
from unittest.mock import patch

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from twinscale.common.planted.mutants import CHANGES as COMMON
from twinscale.common.planted.planting import registry
from twinscale.jaxscale import (
    batch_loss,
    bits,
    mutants_devices,
    mutants_encoder,
    mutants_harmless,
    mutants_images,
    mutants_model,
    mutants_narrow,
    mutants_step,
    mutants_tuning,
    optimizer,
    train,
)
from twinscale.jaxscale.models import convnet, decoder, layers
from twinscale.jaxscale.patches import changed_attention, changed_model, changed_train

OWN, change = registry()


@change("layer", "norm", "*norm*", needs="a norm")
def norm_epsilon() -> Iterator[None]:
    """The norms keep Flax's default epsilon, 1e-6."""
    with changed_model(norm_epsilon=1e-6):
        yield


@change("dense", "activation", "*.activation", needs="GELU")
def tanh_gelu() -> Iterator[None]:
    """GELU in its tanh form, Flax's default, in place of the exact one."""
    with changed_model(activation="gelu_tanh"):
        yield


@change("layer", "attention mask", "*.mask")
def future_mask() -> Iterator[None]:
    """The causal mask is off by one: a position sees the next."""
    causal_mask = layers.causal_mask

    def shifted(length, segments):
        return jnp.roll(causal_mask(length + 1, None), -1, -2)[..., :length, :length] & causal_mask_of(segments)

    def causal_mask_of(segments):
        return True if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None, None]

    with patch.object(layers, "causal_mask", shifted):
        yield


@change("layer", "attention mask", "*.mask")
def crossed_documents() -> Iterator[None]:
    """Attention crosses the ends of documents."""
    causal_mask = layers.causal_mask
    with patch.object(layers, "causal_mask", lambda length, segments: causal_mask(length, None)):
        yield


@change("layer", "attention scores", "*.scores")
def head_scale() -> Iterator[None]:
    """Scores are divided by the root of the model's width in place of the head's."""
    with changed_attention(lambda q, k, v: (q * q.shape[2] ** -0.5, k, v)):
        yield


@change("layer", "attention scores", "*.scores", needs="key heads of their own")
def swapped_query_key() -> Iterator[None]:
    """Queries and keys change places."""
    with changed_attention(lambda q, k, v: (k, q, v)):
        yield


@change("rotary", "attention scores", "*.scores", needs="key heads that share")
def grouped_in_turns() -> Iterator[None]:
    """Query heads read key heads in turns in place of in groups."""

    def in_turns(q, k, v):
        groups = q.shape[2] // k.shape[2]
        return q.reshape(*q.shape[:2], groups, k.shape[2], -1).swapaxes(2, 3).reshape(q.shape), k, v

    with changed_attention(in_turns):
        yield


@change("rotary", "rotary positions", "*.rotary")
def rotary_base() -> Iterator[None]:
    """Rotary positions turn by base 500,000."""
    with changed_model(rotary_base=5e5):
        yield


@change("rotary", "activation", "*.activation", needs="SwiGLU")
def gelu_gate() -> Iterator[None]:
    """The gate goes through GELU in place of SiLU."""
    activation = decoder.activation
    with patch.object(decoder, "activation", lambda name: activation("gelu" if name == "swiglu" else name)):
        yield


@change("layer", "embedding or linear", "embedding", needs="a tied head", phase="backward")
def head_not_tied() -> Iterator[None]:
    """The head reads the embedding's table, but its gradient does not reach it."""
    stopped = lambda table, x: layers.dot_general(x, jax.lax.stop_gradient(table.embedding[...]).T, None)  # noqa: E731
    with patch.object(decoder, "attend", stopped):
        yield


@change("layer", "loss", needs="text")
def unweighted_loss() -> Iterator[None]:
    """Padding counts: the loss is the mean over all positions."""
    loss_sums = batch_loss.loss_sums

    def over_all(recipe, logits, batch):
        return loss_sums(recipe, logits, {**batch, "weights": jnp.ones_like(batch["weights"])})

    with patch.object(batch_loss, "loss_sums", over_all):
        yield


@change("dense", "loss", needs="z-loss")
def lost_z_loss() -> Iterator[None]:
    """The z-loss is left out."""
    with changed_train(z_loss=0.0):
        yield


@change("layer", "accumulation", needs="text")
def mean_of_means() -> Iterator[None]:
    """Micro-batches count alike, however many tokens each holds."""
    sum_gradients = train.sum_gradients

    def alike(recipe, state, number, batch):
        _, running, sums = sum_gradients(recipe, state, number, batch)
        parts = recipe.train.accumulate
        one = recipe.with_values(train={"accumulate": 1})
        total = {}
        for i in range(parts):
            gradients, _, part = sum_gradients(one, state, number, {name: x[i] for name, x in batch.items()})
            total = {path: total.get(path, 0) + g * sums["weight"] / part["weight"] / parts
                     for path, g in gradients.items()}
        return total, running, sums

    with patch.object(train, "sum_gradients", alike):
        yield


@change("dense", "clip")
def clip_each_tensor() -> Iterator[None]:
    """Each tensor's gradient is clipped by its own norm."""
    def alone(gradients, limit):
        clipped = {path: clip({path: g}, limit)[0][path] for path, g in gradients.items()}
        return clipped, clip(gradients, 0.0)[1]

    clip = optimizer.clip
    with patch.object(optimizer, "clip", alone), patch.object(train, "clip", alone):
        yield


@change("dense", "moment", needs="AdamW")
def bfloat16_moments() -> Iterator[None]:
    """Adam's first moment is kept in bfloat16."""
    adam = optax.scale_by_adam

    def coarse(b1, b2, eps):
        inner = adam(b1, b2, eps)

        def update(gradients, state, weights=None):
            updates, state = inner.update(gradients, state, weights)
            return updates, state._replace(mu=jax.tree.map(lambda m: jax.lax.reduce_precision(m, 8, 7), state.mu))

        return optax.GradientTransformation(inner.init, update)

    with patch.object(optax, "scale_by_adam", coarse):
        yield


@change("dense", "update", needs="AdamW")
def adam_epsilon() -> Iterator[None]:
    """Adam keeps Keras' default epsilon, 1e-7."""
    adam = optax.scale_by_adam
    with patch.object(optax, "scale_by_adam", lambda b1, b2, eps: adam(b1, b2, 1e-7)):
        yield


@change("dense", "evaluation", needs="an average")
def no_average_in_evaluation() -> Iterator[None]:
    """Evaluation takes the weights, and not their average."""
    with patch.object(train, "evaluated", lambda state: state.weights):
        yield


@change("dense", "average")
def debiased_average() -> Iterator[None]:
    """The average of the weights starts at the first update, as Keras has it."""
    average = optimizer.average
    with patch.object(train, "average", lambda a, w, decay: average(w, w, decay)):
        yield


@change("image", "activation", "*relu*", needs="convnet")
def leaky_relu() -> Iterator[None]:
    """ReLUs let a hundredth of what is below zero through."""
    with patch.object(nnx, "relu", lambda x: nnx.leaky_relu(x, 0.01)):
        yield


@change("image", "update", needs="Nesterov")
def no_nesterov() -> Iterator[None]:
    """Momentum without Nesterov's look ahead."""
    trace = optax.trace
    with patch.object(optax, "trace", lambda decay, nesterov: trace(decay, False)):
        yield


@change("rotary", "update", needs="LAMB, several blocks, a scan")
def trust_of_all_blocks() -> Iterator[None]:
    """LAMB takes the blocks stacked under a scan for one tensor."""
    with patch.object(optimizer, "trust_ratio", optax.scale_by_trust_ratio):
        yield


@change("image", "norm", "*norm*", needs="convnet")
def norm_momentum() -> Iterator[None]:
    """Running statistics keep 0.99 in place of 0.9 each step."""
    with changed_model(norm_momentum=0.99):
        yield


@change("image", "convolution", "stage_1.*")
def padded_alike() -> Iterator[None]:
    """A strided convolution pads alike on both sides, as PyTorch does."""
    conv = convnet.conv

    def alike(inputs, outputs, size, stride, *rest):
        module = conv(inputs, outputs, size, stride, *rest)
        module.padding = [(size // 2, size // 2)] * 2
        return module

    with patch.object(convnet, "conv", alike):
        yield


@change("dense", "random bits", "*.dropout")
def same_dropout_each_step() -> Iterator[None]:
    """Dropout draws the same bits at every step."""
    fold_in = bits.fold_in
    is_step = lambda data: getattr(data, "dtype", None) == jnp.int32  # noqa: E731
    with patch.object(bits, "fold_in", lambda key, data: fold_in(key, jnp.uint32(0) if is_step(data) else data)):
        yield


ALL = (COMMON | OWN | mutants_model.CHANGES | mutants_step.CHANGES | mutants_devices.CHANGES | mutants_narrow.CHANGES
       | mutants_encoder.CHANGES | mutants_images.CHANGES | mutants_tuning.CHANGES | mutants_harmless.CHANGES)
MUTANTS = {name: change for name, change in ALL.items() if change.operation}
NEUTRAL = {name: change for name, change in ALL.items() if not change.operation}
