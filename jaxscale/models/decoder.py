"""A pre-norm transformer decoder in Flax NNX; a module's path is its canonical name."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.errors import one_of
from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.devices_arrays import LAID_OUT, products
from twinscale.jaxscale.models.bottleneck import add_adapters, behind
from twinscale.jaxscale.models.layers import (
    Linear,
    activation,
    add_blocks,
    attend,
    causal_attention,
    dropout,
    embedding,
    heads,
    looked_up,
    rotary,
    through_blocks,
)
from twinscale.jaxscale.taps import scope, tap

if TYPE_CHECKING:
    from twinscale.common.families import decoder
    from twinscale.common.recipe.running import Jax
    from twinscale.common.recipe.schema import Recipe


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int], kinds: Mapping[str, Any]) -> "Decoder":
    """A module from a dict of inputs (`inputs`, `positions`, and where used `segments`, `row`, `key`) to logits."""
    # Whose family it is.
    return Decoder(recipe.model, recipe.jax, classes, example_shape[0], kinds)  # type: ignore[arg-type]


class Decoder(nnx.Module):
    """Embedding, blocks (stacked under one scan where the recipe says so), norm and head."""

    def __init__(self, m: "decoder.Decoder", execution: "Jax", classes: int, length: int, kinds: Mapping[str, Any]
                 ) -> None:
        rngs = nnx.Rngs(0)
        self.m, self.execution, self.kinds = m, execution, kinds
        self.embedding = embedding(classes, m.width, kinds, rngs)
        if not m.rotates:
            self.position = embedding(length, m.width, kinds, rngs)
        add_blocks(self, lambda rngs: Block(m, execution, length, kinds, rngs), rngs)
        self.norm = norm(m, kinds, rngs)
        if not m.tied:
            self.head = Linear(m.width, classes, use_bias=False, kinds=kinds, rngs=rngs)

    def __call__(self, batch, training=False):
        return self.logits(self.hidden(batch, training))

    def hidden(self, batch: Mapping[str, jax.Array], training: bool = False) -> jax.Array:
        """What the head reads, (B, T, D), of a batch."""
        x = tap("embedding", looked_up(self.embedding, batch["inputs"], self.kinds["dtype"]))
        if not self.m.rotates:
            positions = tap("position", self.position(batch["positions"]).astype(self.kinds["dtype"]))
            x = tap("embedding.sum", x + positions)
        x = tap("embedding.dropout", dropout(x, batch, self.m.dropout, name_word("embedding.dropout"), training))
        return tap("norm", self.norm(through_blocks(self, x, batch, training)))

    def logits(self, x: jax.Array) -> jax.Array:
        """(B, T, V), in float32 or wider, of what `hidden` makes of any positions."""
        logits = tap("head", attend(self.embedding, x) if self.m.tied else self.head(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x)), each with dropout on its output."""

    def __init__(self, m: "decoder.Decoder", execution: "Jax", length: int, kinds: Mapping[str, Any], rngs: nnx.Rngs
                 ) -> None:
        self.rate = m.dropout
        self.norm_1, self.norm_2 = norm(m, kinds, rngs), norm(m, kinds, rngs)
        self.attention = Attention(m, execution, length, kinds, rngs)
        self.feedforward = FeedForward(m, execution, kinds, rngs)
        add_adapters(self, m, kinds, rngs)

    def __call__(self, x, batch, places, training):
        y = self.attention(tap("norm_1", self.norm_1(x)), batch)
        y = tap("attention.dropout", dropout(y, batch, self.rate, places[0], training))
        x = tap("residual_1", x + behind(self, "attention", y))
        y = self.feedforward(tap("norm_2", self.norm_2(x)))
        y = tap("feedforward.dropout", dropout(y, batch, self.rate, places[1], training))
        return tap("residual_2", x + behind(self, "feedforward", y))


class Attention(nnx.Module):
    """Causal attention with grouped queries and, where the recipe says so, rotary positions."""

    def __init__(self, m: "decoder.Decoder", execution: "Jax", length: int, kinds: Mapping[str, Any], rngs: nnx.Rngs
                 ) -> None:
        self.m, self.execution, self.length = m, execution, length
        self.query = dense(m, m.width, m.heads * m.head_width, kinds, rngs)
        self.key = dense(m, m.width, m.kv * m.head_width, kinds, rngs)
        self.value = dense(m, m.width, m.kv * m.head_width, kinds, rngs)
        self.output = dense(m, m.heads * m.head_width, m.width, kinds, rngs)

    def __call__(self, x, batch):
        with scope("attention"):
            q, k, v = heads(self, x)
            if self.m.rotates:
                q, k = (tap(f"{name}.rotary", rotary(part, batch["positions"], self.length, self.m.rotary_base))
                        for name, part in (("query", q), ("key", k)))
            return tap("output", self.output(attention_by(self.execution, q, k, v, batch.get("segments"))))


def attention_by(execution: "Jax", q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None"
                 ) -> jax.Array:
    """`causal_attention` by the kernel that a recipe's section has on the devices that this is traced for."""
    mesh = LAID_OUT[-1].mesh if LAID_OUT else None
    device, sequence = (mesh.devices.flat[0], mesh.shape["sequence"]) if mesh else (jax.devices()[0], 1)
    kernel = execution.kernel(q.dtype.name, q.shape[3], q.shape[1], segments is not None, device.platform,
                              getattr(device, "compute_capability", None), sequence)
    fused: dict[str, Any] = {} if kernel == "einsum" else {"kernel": kernel}
    fused |= {"blocks": execution.splash} if kernel == "splash" else {}
    return causal_attention(q, k, v, segments, **fused)


class FeedForward(nnx.Module):
    """down(activation(up(x))), or with SwiGLU (Shazeer 2020) down(silu(gate(x)) up(x))."""

    def __init__(self, m: "decoder.Decoder", execution: "Jax", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.activation, self.gated, self.execution = m.activation, m.gated, execution
        if self.gated:
            self.gate = dense(m, m.width, m.feedforward, kinds, rngs)
        self.up = dense(m, m.width, m.feedforward, kinds, rngs)
        self.down = dense(m, m.feedforward, m.width, kinds, rngs)

    def __call__(self, x):
        with scope("feedforward"):
            act = activation(self.activation)
            if self.gated:
                up, gate = products([self.up, self.gate], x, self.execution.fused)
                up = tap("up", up)
                x = tap("gated", tap("activation", act(tap("gate", gate))) * up)
            else:
                x = tap("activation", act(tap("up", self.up(x))))
            return tap("down", self.down(x))


def dense(m: "decoder.Decoder", inputs: int, outputs: int, kinds: Mapping[str, Any], rngs: nnx.Rngs) -> Linear:
    """(..., inputs) to (..., outputs), with a bias where `model.bias` says so; `kinds`: Flax's arguments of dtypes."""
    return Linear(inputs, outputs, use_bias=m.bias, kinds=kinds, rngs=rngs)


def norm(m: "decoder.Decoder", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> "nnx.RMSNorm | nnx.LayerNorm":
    """Layer or RMS norm. The fast variance, E[x^2] - E[x]^2, cancels where the mean is large."""
    shared = {"epsilon": m.norm_epsilon, "use_fast_variance": False, **kinds, "rngs": rngs}
    makes: dict[str, Callable[..., Any]] = {
        "rms": nnx.RMSNorm, "layer": functools.partial(nnx.LayerNorm, use_bias=m.bias)}
    return one_of(makes, m.norm, "model.norm")(m.width, **shared)
