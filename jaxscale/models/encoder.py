"""A transformer encoder in Flax NNX; a module's path is its canonical name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.errors import one_of
from twinscale.common.families.encoder import HEADS, outputs_of
from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.models.bottleneck import add_adapters, behind
from twinscale.jaxscale.models.layers import (
    Linear,
    activation,
    add_blocks,
    attend,
    dropout,
    embedding,
    heads,
    looked_up,
    masked_attention,
    mean_over,
    padding_mask,
    through_blocks,
    unit,
)
from twinscale.jaxscale.taps import scope, tap

if TYPE_CHECKING:
    from twinscale.common.families import encoder
    from twinscale.common.recipe.running import Jax
    from twinscale.common.recipe.schema import Recipe


def build(recipe: "Recipe", classes: int, example_shape: Sequence[Any], kinds: Mapping[str, Any]) -> "Encoder":
    """A module from a dict of inputs (`ids`, `mask`, and where used `types`, `row`, `key`) to logits (B, L, classes) or
    (B, classes), or to vectors (B, D)."""
    return Encoder(recipe.model, recipe.jax, classes, kinds)  # type: ignore[arg-type]  # whose family it is


class Encoder(nnx.Module):
    """Tables, blocks (stacked under one scan where the recipe says so) and a head."""

    def __init__(self, m: "encoder.Encoder", execution: "Jax", classes: int, kinds: Mapping[str, Any]) -> None:
        rngs = nnx.Rngs(0)
        self.m, self.execution, self.kinds = m, execution, kinds
        self.embedding = embedding(m.vocabulary, m.width, kinds, rngs)
        self.position = embedding(m.positions, m.width, kinds, rngs)
        if m.types:
            self.token_type = embedding(m.types, m.width, kinds, rngs)
        if m.post:
            self.embedding_norm = norm(m, kinds, rngs)
        add_blocks(self, lambda rngs: Block(m, execution, kinds, rngs), rngs)
        if not m.post:
            self.norm = norm(m, kinds, rngs)
        if m.pools:
            self.pooler = Linear(m.width, m.width, kinds=kinds, rngs=rngs)
        if m.head == "masked":
            self.transform, self.transform_norm = Linear(m.width, m.width, kinds=kinds, rngs=rngs), norm(m, kinds, rngs)
            self.head: nnx.Module = Bias(m.vocabulary, kinds)
        elif m.head != "embedding":
            self.head = Linear(m.width, outputs_of(m, classes), kinds=kinds, rngs=rngs)

    def __call__(self, batch, training=False):
        x = self.embedded(batch)
        x = tap("embedding_norm", self.embedding_norm(x)) if self.m.post else x
        x = tap("embedding.dropout", dropout(x, batch, self.m.dropout, name_word("embedding.dropout"), training))
        x = through_blocks(self, x, batch, training)
        x = x if self.m.post else tap("norm", self.norm(x))
        logits = self.headed(x, batch, training)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def embedded(self, batch: Mapping[str, jax.Array]) -> jax.Array:
        """The sum (B, L, D) of what the tables hold for the inputs."""
        dtype = self.kinds["dtype"]
        x = tap("embedding", looked_up(self.embedding, batch["ids"], dtype))
        places = positions(batch["ids"], self.m.first_position)
        x = tap("embedding.sum", x + tap("position", self.position(places).astype(dtype)))
        if self.m.types:
            x = tap("embedding.types_sum", x + tap("token_type", self.token_type(batch["types"]).astype(dtype)))
        return x

    def headed(self, x: jax.Array, batch: Mapping[str, jax.Array], training: bool) -> jax.Array:
        """What the head makes of x (B, L, D)."""
        if self.m.head == "masked":
            y = tap("transform.activation", activation(self.m.activation)(tap("transform", self.transform(x))))
            product = attend(self.embedding, tap("transform_norm", self.transform_norm(y)))
            return tap("head", self.head(tap("head.product", product)))
        if self.m.head == "embedding":
            return tap("head", unit(tap("pool", mean_over(x, batch["mask"]))))
        if not one_of(HEADS, self.m.head, "model.head"):
            x = x[:, 0]
        if self.m.pools:
            x = tap("pooler.activation", activation("tanh")(tap("pooler", self.pooler(x))))
        x = tap("head.dropout", dropout(x, batch, self.m.head_dropout, name_word("head.dropout"), training))
        return tap("head", self.head(x))


class Block(nnx.Module):
    """Attention and a feed-forward layer, each with dropout on its output and added to what it reads; each sum is
    normed, or with norms before them what is read."""

    def __init__(self, m: "encoder.Encoder", execution: "Jax", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.rate, self.post = m.dropout, m.post
        self.norm_1, self.norm_2 = norm(m, kinds, rngs), norm(m, kinds, rngs)
        self.attention, self.feedforward = Attention(m, execution, kinds, rngs), FeedForward(m, kinds, rngs)
        add_adapters(self, m, kinds, rngs)

    def __call__(self, x, batch, places, training):
        y = self.attention(x if self.post else tap("norm_1", self.norm_1(x)), batch)
        y = tap("attention.dropout", dropout(y, batch, self.rate, places[0], training))
        x = tap("residual_1", x + behind(self, "attention", y))
        x = tap("norm_1", self.norm_1(x)) if self.post else x
        y = self.feedforward(x if self.post else tap("norm_2", self.norm_2(x)))
        y = tap("feedforward.dropout", dropout(y, batch, self.rate, places[1], training))
        x = tap("residual_2", x + behind(self, "feedforward", y))
        return tap("norm_2", self.norm_2(x)) if self.post else x


class Attention(nnx.Module):
    """Attention to all positions but padding, where a batch has any."""

    def __init__(self, m: "encoder.Encoder", execution: "Jax", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.m, self.execution = m, execution
        for name in ("query", "key", "value", "output"):
            setattr(self, name, Linear(m.width, m.width, kinds=kinds, rngs=rngs))

    def __call__(self, x, batch):
        with scope("attention"):
            q, k, v = heads(self, x)
            seen = padding_mask(batch["mask"]) if "mask" in batch else None
            return tap("output", self.output(masked_attention(q, k, v, seen)))

class FeedForward(nnx.Module):
    """down(activation(up(x)))."""

    def __init__(self, m: "encoder.Encoder", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> None:
        self.activation = m.activation
        self.up = Linear(m.width, m.feedforward, kinds=kinds, rngs=rngs)
        self.down = Linear(m.feedforward, m.width, kinds=kinds, rngs=rngs)

    def __call__(self, x):
        with scope("feedforward"):
            return tap("down", self.down(tap("activation", activation(self.activation)(tap("up", self.up(x))))))


class Bias(nnx.Module):
    """x (..., D) + bias, in float32 or wider and rounded once."""

    def __init__(self, width: int, kinds: Mapping[str, Any]) -> None:
        self.bias = nnx.Param(jnp.zeros((width,), kinds["param_dtype"]))

    def __call__(self, x):
        return (x.astype(self.bias[...].dtype) + self.bias[...]).astype(x.dtype)


def positions(ids: jax.Array, first: int) -> jax.Array:
    """The rows of a table of positions that ids (B, L) read, `first` on."""
    return jnp.broadcast_to(first + jnp.arange(ids.shape[1]), ids.shape)


def norm(m: "encoder.Encoder", kinds: Mapping[str, Any], rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer norm. The fast variance, E[x^2] - E[x]^2, cancels where the mean is large."""
    return nnx.LayerNorm(m.width, epsilon=m.norm_epsilon, use_fast_variance=False, **kinds, rngs=rngs)
