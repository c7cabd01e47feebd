"""Generation from a decoder with a cache of keys and values, and the trainer's forward pass to hold it against.

A slot of the cache is a position: what stands at position p lies in slot p, and is seen from position p on. So rows of
different lengths share one batch without a mask of their own, and a slot that was filled up with anything is written
before it is seen. `common/generation/loop.py` asks for the tokens.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscale.common.export.check import one_document
from twinscale.common.export.write import served
from twinscale.common.generation.loop import Sampler
from twinscale.jaxscale.batch_loss import model_inputs
from twinscale.jaxscale.models import build, by_path, merge
from twinscale.jaxscale.models.bottleneck import behind
from twinscale.jaxscale.models.layers import attend, heads, rotary

if TYPE_CHECKING:
    from twinscale.common.export.formats import Shape
    from twinscale.common.recipe.schema import Recipe

Module = Any  # the Decoder of models/decoder.py, or its Attention
Cache = list[tuple[jax.Array, jax.Array]]  # of each block, keys and values (B, K, S, D) in the compute dtype


def sampler(recipe: "Recipe", shape: "Shape", tensors: Mapping[str, np.ndarray]) -> Sampler:
    """The Sampler of a decoder with the values of {canonical name: array}; compiled once for each shape that it is
    called with. Its cache is donated: a step takes its memory."""
    recipe = alone(recipe)
    graph, variables = build(recipe, shape.classes, shape.example_shape)
    values = {path: jnp.asarray(by_path(path, tensors.__getitem__, recipe.model), v.dtype)
              for path, v in variables.items()}

    def module(values):
        return merge(graph, {path: variables[path].replace(x) for path, x in values.items()})

    @functools.partial(jax.jit, static_argnames="slots")
    def start(values, ids, lengths, slots):
        model = module(values)
        cache = empty(model, len(ids), slots)
        x, cache = through(model, ids, jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape), cache)
        return head(model, jnp.take_along_axis(x, lengths[:, None, None] - 1, 1))[:, 0], cache

    @functools.partial(jax.jit, donate_argnums=3)
    def step(values, ids, positions, cache):
        model = module(values)
        x, cache = through(model, ids[:, None], positions[:, None], cache)
        return head(model, x)[:, 0], cache

    return Sampler(lambda ids, lengths, slots: start(values, ids, lengths, slots=slots),
                   lambda ids, positions, cache: step(values, ids, positions, cache))


def trainer(recipe: "Recipe", shape: "Shape") -> Callable[[Mapping[str, np.ndarray], np.ndarray], np.ndarray]:
    """({canonical name: array}, ids (B, T) of all the model's positions) to the logits (B, T, V), NumPy, of the
    trainer's own forward pass over rows of one document each."""
    recipe = alone(recipe)
    graph, variables = build(recipe, shape.classes, shape.example_shape)

    @jax.jit
    def forward(values, given):
        return merge(graph, {path: variables[path].replace(x) for path, x in values.items()})(given)

    def logits(tensors, ids):
        values = {path: jnp.asarray(by_path(path, tensors.__getitem__, recipe.model), v.dtype)
                  for path, v in variables.items()}
        given = {name: jnp.asarray(x) for name, x in one_document(ids).items()}
        return jax.device_get(forward(values, model_inputs(recipe, given, jnp.zeros(2, jnp.uint32))))

    return logits


def alone(recipe: "Recipe") -> "Recipe":
    """The recipe of a decoder that reads one document a row, block by block."""
    return served(recipe).with_values(jax={"scan": False})


def empty(model: Module, rows: int, slots: int) -> Cache:
    """A Cache of zeros for `rows` rows and `slots` positions."""
    m, kind = model.m, model.kinds["dtype"]
    return [(jnp.zeros((rows, m.kv, slots, m.head_width), kind), jnp.zeros((rows, m.kv, slots, m.head_width), kind))
            for _ in range(m.layers)]


def through(model: Module, ids: jax.Array, positions: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
    """(what the head reads (B, T, D), the cache with these positions in it) of ids and positions, both (B, T)."""
    m, kind, filled = model.m, model.kinds["dtype"], []
    x = model.embedding(ids).astype(kind)
    if not m.rotates:
        x = x + model.position(positions).astype(kind)
    for i, known in enumerate(cache):
        block = getattr(model, f"block_{i}")
        y, known = attention(block.attention, block.norm_1(x), positions, known)
        filled.append(known)
        x = x + behind(block, "attention", y)
        x = x + behind(block, "feedforward", block.feedforward(block.norm_2(x)))
    return model.norm(x), filled


def head(model: Module, x: jax.Array) -> jax.Array:
    """Logits (B, T, V), float32 or wider, of what the head reads."""
    logits = attend(model.embedding, x) if model.m.tied else model.head(x)
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def attention(layer: Module, x: jax.Array, positions: jax.Array, known: tuple[jax.Array, jax.Array]
              ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """(what attention makes of x (B, T, D) over all that is cached, the cache) at positions (B, T)."""
    q, k, v = heads(layer, x)
    if layer.m.rotates:
        q, k = (rotated(layer, part, positions) for part in (q, k))
    keys, values = put(known[0], k, positions), put(known[1], v, positions)
    scores = jnp.einsum("btkgd,bksd->bkgts", q.reshape(*q.shape[:2], layer.m.kv, -1, layer.m.head_width), keys)
    scores = scores.astype(jnp.promote_types(q.dtype, jnp.float32)) * layer.m.head_width**-0.5
    shares = jax.nn.softmax(jnp.where(seen(positions, keys.shape[2]), scores, jnp.finfo(scores.dtype).min))
    mixed = jnp.einsum("bkgts,bksd->btkgd", shares.astype(values.dtype), values)
    return layer.output(mixed.reshape(*mixed.shape[:2], -1)), (keys, values)


def rotated(layer: Module, x: jax.Array, positions: jax.Array) -> jax.Array:
    """Queries or keys (B, T, H, D) at positions (B, T)."""
    return rotary(x, positions, layer.length, layer.m.rotary_base)


def put(known: jax.Array, new: jax.Array, positions: jax.Array) -> jax.Array:
    """The cache (B, K, S, D) with `new` (B, T, K, D) in the slots `positions` (B, T), which follow on each other."""
    def one(row, part, first):
        return jax.lax.dynamic_update_slice(row, part, (jnp.zeros_like(first), first, jnp.zeros_like(first)))

    return jax.vmap(one)(known, jnp.swapaxes(new, 1, 2), positions[:, 0])


def seen(positions: jax.Array, slots: int) -> jax.Array:
    """Whether a position (B, T) sees a slot: bool (B, 1, 1, T, S)."""
    return (jnp.arange(slots) <= positions[..., None])[:, None, None]
