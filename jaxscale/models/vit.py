"""A vision transformer in Flax NNX; a module's path is its canonical name."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from twinscale.common.families.vit import positions_of
from twinscale.common.numbers.bits import name_word
from twinscale.jaxscale.models.encoder import Bias, Block, norm
from twinscale.jaxscale.models.layers import Linear, activation, add_blocks, dropout, embedding, through_blocks
from twinscale.jaxscale.taps import tap

if TYPE_CHECKING:
    from twinscale.common.families import vit
    from twinscale.common.recipe.running import Jax
    from twinscale.common.recipe.schema import Recipe


def build(recipe: "Recipe", classes: int, example_shape: Sequence[int], kinds: Mapping[str, Any]) -> "ViT":
    """A module from a dict of inputs (`inputs` (B, H, W, C), and where used `row` and `key`) to logits (B, classes)."""
    return ViT(recipe.model, recipe.jax, classes, example_shape, kinds)  # type: ignore[arg-type]  # whose family it is


class ViT(nnx.Module):
    """Patches behind a class token, blocks (stacked under one scan where the recipe says so), norm and head."""

    def __init__(self, m: "vit.ViT", execution: "Jax", classes: int, example_shape: Sequence[int],
                 kinds: Mapping[str, Any]) -> None:
        rngs, side = nnx.Rngs(0), (m.patch, m.patch)
        self.m, self.execution, self.kinds = m, execution, kinds
        self.class_token = embedding(1, m.width, kinds, rngs)
        self.patch = nnx.Conv(example_shape[-1], m.width, side, side, padding="VALID", use_bias=False, **kinds,
                              rngs=rngs)
        self.patch_bias = Bias(m.width, kinds)
        self.position = embedding(positions_of(m, example_shape), m.width, kinds, rngs)
        add_blocks(self, lambda rngs: Block(m, execution, kinds, rngs), rngs)  # type: ignore[arg-type]  # has what blocks ask
        self.norm = norm(m, kinds, rngs)  # type: ignore[arg-type]
        if m.pooler:
            self.pooler = Linear(m.width, m.width, kinds=kinds, rngs=rngs)
        self.head = Linear(m.width, classes, kinds=kinds, rngs=rngs)

    def __call__(self, batch, training=False):
        x = self.embedded(batch["inputs"].astype(self.kinds["dtype"]))
        x = tap("embedding.dropout", dropout(x, batch, self.m.dropout, name_word("embedding.dropout"), training))
        x = tap("norm", self.norm(through_blocks(self, x, batch, training)))[:, 0]
        if self.m.pooler:
            x = tap("pooler.activation", activation("tanh")(tap("pooler", self.pooler(x))))
        x = tap("head.dropout", dropout(x, batch, self.m.dropout, name_word("head.dropout"), training))
        logits = tap("head", self.head(x))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def embedded(self, images: jax.Array) -> jax.Array:
        """The class token and the patches (B, 1 + patches, D) of images (B, H, W, C), each with its position."""
        patches = tap("patch_bias", self.patch_bias(tap("patch", self.patch(images))))
        rows, patches = len(images), patches.reshape(len(images), -1, self.m.width)
        token = tap("class_token", self.class_token(jnp.zeros((rows, 1), jnp.int32)).astype(patches.dtype))
        places = jnp.broadcast_to(jnp.arange(1 + patches.shape[1]), (rows, 1 + patches.shape[1]))
        x = jnp.concatenate([token, patches], 1)
        return tap("embedding.sum", x + tap("position", self.position(places).astype(x.dtype)))
