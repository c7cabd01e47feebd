"""What Flax has no stock version of, and what several models share; none of it holds weights of its own."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from twinscale.common.errors import one_of
from twinscale.common.families.decoder import pieces
from twinscale.common.numbers.bits import name_word
from twinscale.common.recipe.running import Splash
from twinscale.jaxscale import bits
from twinscale.jaxscale.devices import ROWS
from twinscale.jaxscale.devices_arrays import LAID_OUT, lay_columns, products, sequence_shared
from twinscale.jaxscale.models.matmul import batched_matmul, kept, matmul, softmax_mix
from twinscale.jaxscale.models.ring import Ring, attend_around
from twinscale.jaxscale.taps import HOOKS, named, scope, tap, unread

if TYPE_CHECKING:
    from twinscale.common.recipe.running import Jax

# Of a transformer's blocks: the places of one that draw, and what the backward pass of one keeps.
DROPS = ("attention.dropout", "feedforward.dropout")
REMAT = {"dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims, "full": None,
         "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host")}


def dot_general(x: jax.Array, w: jax.Array, dimension_numbers: Any, **_: Any) -> jax.Array:
    """`nnx.Linear`'s product over the last axis, as one flat matrix product: on CPU twice as fast as at rank 3.
    Rows and positions that are both shared cannot be one axis."""
    return x @ w if sequence_shared() else matmul(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])


class Linear(nnx.Linear):
    """`nnx.Linear` as one flat matrix product. The bias is added in float32 or wider and the sum rounded once: Flax
    would sum a bfloat16 bias' gradient over all rows in bfloat16."""

    def __init__(self, inputs: int, outputs: int, *, kinds: Mapping[str, Any], rngs: nnx.Rngs, use_bias: bool = True
                 ) -> None:
        def promote(values, dtype):
            x, kernel, bias = (None if v is None else v.astype(dtype) for v in values)
            return x, kernel, None if bias is None else bias.astype(jnp.promote_types(dtype, jnp.float32))

        own: Any = promote  # of three values alone
        super().__init__(inputs, outputs, use_bias=use_bias, **kinds, dot_general=dot_general, promote_dtype=own,
                         rngs=rngs)

    def __call__(self, x):
        return super().__call__(x).astype(self.dtype)


class Part(nnx.Module):
    """A named group of modules, which has what it is given."""


def batch_norm(m: Any, channels: int, kinds: Mapping[str, Any], rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch norm by `norm_momentum` and `norm_epsilon` of a model's options. The fast variance, E[x^2] - E[x]^2,
    cancels where the mean is large."""
    return nnx.BatchNorm(channels, momentum=m.norm_momentum, epsilon=m.norm_epsilon, use_fast_variance=False,
                         **kinds, rngs=rngs)


def add_blocks(model: Any, make: Callable[[nnx.Rngs], nnx.Module], rngs: nnx.Rngs) -> None:
    """Gives a transformer its blocks, as many as `model.m.layers`: stacked as `blocks` where the recipe scans over them
    (`model.execution`), else `block_0`, `block_1`, ..."""
    if model.execution.scan:
        model.blocks = nnx.vmap(make)(rngs.split(model.m.layers))
        return
    for i in range(model.m.layers):
        setattr(model, f"block_{i}", make(rngs))


def through_blocks(model: Any, x: jax.Array, batch: Mapping[str, jax.Array], training: bool) -> jax.Array:
    """x (B, T, D) after all blocks of `add_blocks`: one scanned body, or one block after another; the numbers are the
    same."""
    layers = range(model.m.layers)
    places = jnp.array([[name_word(f"block_{i}.{drop}") for drop in DROPS] for i in layers], jnp.uint32)

    def body(x, block_and_places):
        (graph, weights), places = block_and_places
        with named(model.execution.named):
            return nnx.merge(graph, weights)(x, batch, places, training)

    if model.execution.remat != "none":
        body = jax.checkpoint(body, policy=kept_by(model.execution))
    if model.execution.scan:
        graph, weights = nnx.split(model.blocks)
        return jax.lax.scan(lambda x, w: (body(x, ((graph, w[0]), w[1])), None), x, (weights, places))[0]
    for i in layers:
        with scope(f"block_{i}"):
            x = body(x, (nnx.split(getattr(model, f"block_{i}")), places[i]))
    return x


def kept_by(execution: "Jax") -> "Callable[..., Any] | None":
    """The policy of `jax.checkpoint` that a recipe's section asks for."""
    policy = one_of(REMAT, execution.remat, "jax.remat")
    return jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=execution.remat_save, names_which_can_be_offloaded=execution.remat_offload,
        offload_src="device", offload_dst="pinned_host") if execution.named else policy


def embedding(rows: int, width: int, kinds: Mapping[str, Any], rngs: nnx.Rngs) -> nnx.Embed:
    """An `nnx.Embed` in the masters' dtype, so that the rows' gradients add up in it."""
    return nnx.Embed(rows, width, dtype=kinds["param_dtype"], param_dtype=kinds["param_dtype"], rngs=rngs)


def looked_up(embedding: nnx.Embed, ids_BxT: jax.Array, dtype: Any) -> jax.Array:
    """Rows (B, T, D) of a table in `dtype`. They are rounded where they lie as the table's width is cut, so that what
    is sent between devices, and comes back as a gradient, is narrow."""
    return lay_columns(embedding(ids_BxT).astype(dtype))


def attend(embedding: nnx.Embed, x_BxTxD: jax.Array) -> jax.Array:
    """Logits (B, T, V) of a head that shares an `nnx.Embed`'s table."""
    return dot_general(x_BxTxD, embedding.embedding[...].astype(x_BxTxD.dtype).T, None)


def in_chunks(model_of: Callable[[Any], Any], weights: Mapping[str, jax.Array], given: tuple[Any, Any],
              judge: Callable[..., Any], count: int, training: bool = False) -> Any:
    """What `judge` makes of a decoder's logits, over `count` parts of the positions. A part's logits are made after
    another's, and again backward, so that T positions of V logits are never there at once. A part has every count-th
    position, which shares it over devices as the whole is shared.

    Args:
      model_of: from weights by path to the module; given: (what it reads, the batch, of which `judge` reads a part).
      judge: (logits (B, T / count, V), a part of the batch) to (sums, which are added up, what each position has,
        (B, T / count), which becomes (B, T)), each a tree of arrays.
    """
    inputs, batch = given
    x_BxTxD = model_of(weights).hidden(inputs, training)

    def parts(x):
        return jnp.moveaxis(x.reshape(x.shape[0], -1, count, *x.shape[2:]), 2, 0)

    @jax.checkpoint
    def one(weights, part):
        return judge(model_of(weights).logits(part[0]), part[1])

    each = {name: parts(y) for name, y in batch.items() if y.shape[1:2] == x_BxTxD.shape[1:2]}
    _, (sums, rows) = jax.lax.scan(lambda _, part: (None, one(weights, part)), None, (parts(x_BxTxD), each))
    return jax.tree.map(lambda x: x.sum(0), sums), jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 2).reshape(x.shape[1], -1), rows)


def heads(layer: Any, x: jax.Array) -> list[jax.Array]:
    """Queries (B, T, H, D), keys and values (B, T, K, D) of x (B, T, width), by the `query`, `key` and `value` of a
    layer of attention."""
    names = "query", "key", "value"
    made = products([getattr(layer, name) for name in names], x, layer.execution.fused)
    return [tap(name, y).reshape(*x.shape[:2], -1, layer.m.head_width) for name, y in zip(names, made, strict=True)]


def rotary(x_BxTxHxD: jax.Array, positions_BxT: jax.Array, length: int, base: float) -> jax.Array:
    """Rotary positions (Su et al. 2021): halves of the head rotate against each other."""
    half = x_BxTxHxD.shape[-1] // 2
    angles = np.tile(np.arange(length)[:, None] * base ** (-np.arange(half) / half), 2)
    wide = jnp.promote_types(x_BxTxHxD.dtype, jnp.float32)
    cos, sin = (jnp.asarray(f(angles), wide)[positions_BxT][:, :, None] for f in (np.cos, np.sin))
    return rotated(x_BxTxHxD, cos, sin)


@jax.custom_vjp
def rotated(x_BxTxHxD: jax.Array, cos_BxTx1xD: jax.Array, sin_BxTx1xD: jax.Array) -> jax.Array:
    """Halves (a, b) of heads as (a cos - b sin, b cos + a sin), rounded once. They change places before they are
    widened, which moves half as much; by JAX's own rules the gradients of both would be rounded, and then their sum."""
    a, b = jnp.split(x_BxTxHxD, 2, -1)
    crossed = jnp.concatenate([-b, a], -1)
    wide = cos_BxTx1xD.dtype
    return (x_BxTxHxD.astype(wide) * cos_BxTx1xD + crossed.astype(wide) * sin_BxTx1xD).astype(x_BxTxHxD.dtype)


def rotated_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rotated back; angles, which whole numbers make, have no gradient."""
    cos, sin = saved
    return rotated(dy, cos, -sin), jnp.zeros_like(cos), jnp.zeros_like(sin)


rotated.defvjp(lambda x, cos, sin: (rotated(x, cos, sin), (cos, sin)), rotated_backward)


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None" = None,
                     kernel: str = "einsum", **options: Any) -> jax.Array:
    """Scaled dot-product attention under a causal mask that documents do not cross (Vaswani et al. 2017).

    q (B, T, H, D) and k, v (B, T, K, D), where K divides H (grouped-query attention, Ainslie et al. 2023: query head h
    reads key head h // (H / K)); segments int (B, T) or None. Scores and softmax in float32 or wider.
    With a fused `kernel`, which takes the `options`, there is no place but the last: the scores are never whole.
    Returns (B, T, H D).
    """
    if kernel != "einsum":
        mixed = one_of(FUSED, kernel, "jax.attention")(q, k, v, segments, **options)
        return tap("mix", mixed.reshape(*q.shape[:2], -1))
    seen, whole = causal_mask(q.shape[1], segments), [(0, q.shape[1])]
    ranges = whole if HOOKS or sequence_shared() else pieces(q.shape[1])  # hooks read what is whole, names keep pieces
    parts = [masked_attention(q[:, i:j], k[:, :j], v[:, :j], seen[..., i:j, :j]) for i, j in ranges]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, 1)


def masked_attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: "jax.Array | None") -> jax.Array:
    """`causal_attention` under any mask: `seen` is bool and broadcasts to (B, K, H / K, T, T); None: all see all."""
    alone, wide = not LAID_OUT or LAID_OUT[-1].mesh.size == 1, q.dtype == jnp.promote_types(q.dtype, jnp.float32)
    if alone and wide and unread():  # there are no places then that a name could keep either
        return unread_attention(q, k, v, seen)
    score, mix = (shared_scores, shared_mix) if sequence_shared() else (flat_scores, flat_mix)
    scores = tap("scores", score(q, k).astype(jnp.promote_types(q.dtype, jnp.float32)) * q.shape[3]**-0.5)
    if seen is not None:
        scores = tap("mask", jnp.where(seen, scores, jnp.finfo(scores.dtype).min))
    shares = tap("shares", jax.nn.softmax(scores))
    return tap("mix", mix(shares.astype(v.dtype), v))


def unread_attention(q: jax.Array, k: jax.Array, v: jax.Array, seen: "jax.Array | None") -> jax.Array:
    """`masked_attention` on one device in float32 or wider, where nothing reads the places within: a gradient goes
    through the softmax and the values at once."""
    scores = flat_scores(q, k) * q.shape[3]**-0.5
    scores = scores if seen is None else jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
    flat = scores.reshape(*scores.shape[:2], -1, scores.shape[4])
    return flat_heads(softmax_mix(flat, heads_first(v)), q.shape[1])


def heads_first(v: jax.Array) -> jax.Array:
    """(B, S, K, D) as (B, K, S, D)."""
    return kept(v.transpose(0, 2, 1, 3))


def flat_scores(q: jax.Array, k: jax.Array) -> jax.Array:
    """Products of queries (B, T, H, D) and keys (B, S, K, D): (B, K, H / K, T, S); groups and positions as one axis."""
    batch, length, heads, width = q.shape
    groups = heads // k.shape[2]
    q = q.reshape(batch, length, -1, groups, width).transpose(0, 2, 3, 1, 4).reshape(batch, -1, groups * length, width)
    return batched_matmul(kept(q), kept(k.transpose(0, 2, 3, 1))).reshape(batch, -1, groups, length, k.shape[1])


def flat_mix(shares: jax.Array, v: jax.Array) -> jax.Array:
    """Values (B, S, K, D) mixed by shares (B, K, G, T, S): (B, T, K G D)."""
    batch, kv, groups, length, _ = shares.shape
    return flat_heads(batched_matmul(shares.reshape(batch, kv, groups * length, -1), heads_first(v)), length)


def flat_heads(mixed: jax.Array, length: int) -> jax.Array:
    """(B, K, G T, D), of T positions, as (B, T, K G D)."""
    batch, kv, _, width = mixed.shape
    return mixed.reshape(batch, kv, -1, length, width).transpose(0, 3, 1, 2, 4).reshape(batch, length, -1)


def shared_scores(q: jax.Array, k: jax.Array) -> jax.Array:
    """`flat_scores` where positions are shared, which cannot be one axis with groups."""
    return jnp.einsum("btkgd,bskd->bkgts", q.reshape(*q.shape[:2], k.shape[2], -1, q.shape[3]), k)


def shared_mix(shares: jax.Array, v: jax.Array) -> jax.Array:
    """`flat_mix` where positions are shared."""
    mixed = jnp.einsum("bkgts,bskd->btkgd", shares, v)
    return mixed.reshape(*mixed.shape[:2], -1)


def causal_mask(length: int, segments: "jax.Array | None") -> jax.Array:
    """Whether a position sees another: bool, broadcasting to (B, K, G, T, T)."""
    places = jnp.arange(length)
    mask = (places[:, None] >= places)[None, None, None]
    return mask if segments is None else mask & (segments[:, :, None] == segments[:, None, :])[:, None, None]


def padding_mask(mask: jax.Array) -> jax.Array:
    """Whether a position is seen, of a mask (B, S) that is 0 where padding is: bool, (B, 1, 1, 1, S)."""
    return mask[:, None, None, None] != 0


def mean_over(x: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean (B, D) of x (B, S, D) over the positions that a mask (B, S) has not at 0, rounded once."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    kept = (mask != 0).astype(wide)[..., None]
    return (jnp.sum(x.astype(wide) * kept, 1) / jnp.sum(kept, 1)).astype(x.dtype)


def unit(x: jax.Array, least: float = 1e-12) -> jax.Array:
    """x (..., D) at length 1, or divided by `least` where it is shorter than that, rounded once."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (wide * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(wide), -1, keepdims=True), least**2))).astype(x.dtype)


def cudnn_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None" = None,
                    implementation: Literal["cudnn", "xla"] = "cudnn") -> jax.Array:
    """cuDNN's flash attention: `causal_attention`, (B, T, H, D).

    Over a mesh each device calls it on its own rows and heads: its own rule for that wants as many key heads as query
    heads.
    """
    mesh, row, _, head = shared_by(q)
    spec = PartitionSpec(row, None, head)

    def local(q, k, v, segments):
        mask = None if segments is None else (segments[:, :, None] == segments[:, None, :])[:, None]
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=True, implementation=implementation)

    k, v = (enough_heads(x, mesh, head) for x in (k, v))
    return on_each(mesh, local, (spec, spec, spec, PartitionSpec(row)), spec)(q, k, v, segments)


def splash_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None" = None,
                     blocks: "Splash | None" = None) -> jax.Array:
    """JAX's flash attention for TPUs, "splash", elsewhere interpreted: `causal_attention`, (B, T, H, D).

    Over a mesh each device calls it on its own rows, heads and positions of queries. What is kept by the name of its
    place is kept with the sums that its backward pass reads, so that it does not run again.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash  # takes a while
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    mesh, row, position, head = shared_by(q)
    shares, heads = mesh.shape["sequence"] if position else 1, q.shape[2] // (mesh.shape["tensor"] if head else 1)
    mask = masks.MultiHeadMask([masks.CausalMask((q.shape[1], q.shape[1]))] * heads)
    device = LAID_OUT[-1].mesh.devices.flat[0] if LAID_OUT else jax.devices()[0]
    kernel = splash.make_splash_mha(mask, head_shards=1, q_seq_shards=shares, interpret=device.platform != "tpu",
                                    block_sizes=splash.BlockSizes(**(blocks or Splash()).sizes(q.shape[1], shares)),
                                    residual_checkpoint_name="attention.mix")

    def local(q, k, v, own, segments, kernel):
        ids = None if segments is None else splash.SegmentIds(own, segments)
        return jnp.swapaxes(jax.vmap(kernel)(*(jnp.swapaxes(x, 1, 2) for x in (q, k, v)), ids), 1, 2)

    wide = q.astype(jnp.promote_types(q.dtype, jnp.float32))
    q = (wide * q.shape[3]**-0.5).astype(q.dtype)  # which the kernel leaves to its caller
    k, v = (enough_heads(x, mesh, head) for x in (k, v))
    queries, keys = PartitionSpec(row, position, head), PartitionSpec(row, None, head)
    whole = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, position))) if mesh else None
    taken = queries, keys, keys, PartitionSpec(row, position), PartitionSpec(row), whole
    return on_each(mesh, local, taken, queries)(q, k, v, segments, segments, kernel)


def ring_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: "jax.Array | None" = None) -> jax.Array:
    """`causal_attention`, (B, T, H, D), of keys and values that go around the devices that share positions."""
    mesh, row, position, head = shared_by(q)
    k, v = (enough_heads(x, mesh, head) for x in (k, v))
    spec, ring = PartitionSpec(row, position, head), Ring("sequence", mesh.shape["sequence"])
    taken = spec, spec, spec, PartitionSpec(row, position)
    return on_each(mesh, lambda *own: attend_around(*own, ring), taken, spec)(q, k, v, segments)


FUSED: dict[str, Callable[..., jax.Array]] = {
    "cudnn": cudnn_attention, "splash": splash_attention, "ring": ring_attention}


def shared_by(q: jax.Array) -> tuple[Any, Any, Any, Any]:
    """(mesh, and its axes that share the rows, positions and heads of queries (B, T, H, D)); None for what is not
    shared. Kernels are no XLA, so that they are shared by hand."""
    if not LAID_OUT or LAID_OUT[-1].mesh.size == 1:
        return None, None, None, None
    return LAID_OUT[-1].mesh, *LAID_OUT[-1].spec((("", (ROWS, "sequence", "tensor")),), "", q.shape)


def enough_heads(x: jax.Array, mesh: Any, head: Any) -> jax.Array:
    """Keys or values (B, T, K, D), repeated until an axis of the mesh shares them as it shares the queries' heads."""
    return x if head is None else jnp.repeat(x, math.lcm(x.shape[2], mesh.shape[head]) // x.shape[2], axis=2)


def on_each(mesh: "Mesh | None", function: Callable[..., jax.Array], taken: Any, given: PartitionSpec
            ) -> Callable[..., jax.Array]:
    """The function on each device's own part of its arguments."""
    return jax.shard_map(function, mesh=mesh, in_specs=taken, out_specs=given, check_vma=False) if mesh else function


def dropout(x: jax.Array, batch: Mapping[str, jax.Array], rate: float, place: jax.typing.ArrayLike, training: bool
            ) -> jax.Array:
    """Dropout from the shared bits at a place, given as the word of its canonical name."""
    return bits.dropout(x, batch["key"], batch["row"], rate, place) if training and rate else x


def gelu(x: jax.Array) -> jax.Array:
    """GELU, x Phi(x) (Hendrycks & Gimpel 2016), by the error function: of its complement, which Flax takes, XLA
    on CPU computes two forms for every value, and takes one."""
    return 0.5 * x * (1 + jax.lax.erf(x / math.sqrt(2)))


def gelu_tanh(x: jax.Array) -> jax.Array:
    """GELU's tanh form, with (1 + tanh(u)) / 2 as sigmoid(2u): where x is below 0, Flax's own takes small slopes as
    differences of numbers near 1."""
    return x * nnx.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The function of a recipe's activation; bfloat16 is widened, and rounded once."""
    functions: dict[str, Callable[[jax.Array], jax.Array]] = {
        "gelu": gelu, "relu": nnx.relu, "swiglu": nnx.silu,
        "gelu_tanh": gelu_tanh, "tanh": jnp.tanh}
    function = one_of(functions, name, "model.activation")
    return lambda x: function(x.astype(jnp.promote_types(x.dtype, jnp.float32))).astype(x.dtype)
