"""The canonical places of a model: every operation whose output both backends show, in forward order.

A place is named as in the parameter tree; the operation at `block_0.norm_1` holds the tensors `block_0.norm_1.*`.
A Keras layer's name is its place; Flax modules name theirs with `tap`.
"""

from dataclasses import dataclass

from twinscale.common.errors import one_of
from twinscale.common.parameters import convnet_blocks


@dataclass(frozen=True)
class Place:
    """One operation: its class, the places whose outputs it reads, and the place whose tensors it holds."""

    operation: str
    reads: tuple = ()
    holds: str = ""


def places(model):
    """{name: Place} of a model section of the recipe, in forward order; the last is "head", which gives the logits."""
    found = {}

    def place(name, operation, *reads, holds=None):
        found[name] = Place(operation, reads, name if holds is None else holds)
        return name

    one_of(FAMILIES, model.family, "model.family")(model, place)
    return found


def decoder(m, place):
    def rotated(name):
        return place(f"{name}.rotary", "rotary positions", name) if m.rotates else name

    def dropped(name, x):
        return place(f"{name}.dropout", "random bits", x) if m.dropout else x

    x = place("embedding", "embedding")
    if not m.rotates:
        x = place("embedding.sum", "sum", x, place("position", "embedding"), holds="")
    x = dropped("embedding", x)
    for i in range(m.layers):
        block = f"block_{i}"
        attention, feedforward = f"{block}.attention", f"{block}.feedforward"
        y = place(f"{block}.norm_1", "norm", x)
        q, k, v = (place(f"{attention}.{part}", "linear", y) for part in ("query", "key", "value"))
        q, k = rotated(q), rotated(k)
        scores = place(f"{attention}.scores", "attention scores", q, k)
        shares = place(f"{attention}.shares", "softmax", place(f"{attention}.mask", "attention mask", scores))
        y = place(f"{attention}.mix", "attention mix", shares, v)
        y = dropped(attention, place(f"{attention}.output", "linear", y))
        x = place(f"{block}.residual_1", "residual", x, y)
        y = place(f"{block}.norm_2", "norm", x)
        up = place(f"{feedforward}.up", "linear", y)
        if m.gated:
            gate = place(f"{feedforward}.activation", "activation", place(f"{feedforward}.gate", "linear", y))
            y = place(f"{feedforward}.gated", "gate", gate, up)
        else:
            y = place(f"{feedforward}.activation", "activation", up)
        y = dropped(feedforward, place(f"{feedforward}.down", "linear", y))
        x = place(f"{block}.residual_2", "residual", x, y)
    place("head", "linear", place("norm", "norm", x), holds="embedding" if m.tied else "head")


def convnet(m, place):
    x = place("stem.relu", "activation", place("stem.norm", "norm", place("stem.conv", "convolution")))
    for block in convnet_blocks(m):
        name = block.name
        y = place(f"{name}.norm_1", "norm", place(f"{name}.conv_1", "convolution", x))
        y = place(f"{name}.conv_2", "convolution", place(f"{name}.relu_1", "activation", y))
        y = place(f"{name}.norm_2", "norm", y)
        if block.projects:
            x = place(f"{name}.shortcut", "convolution", x)
        x = place(f"{name}.relu_2", "activation", place(f"{name}.residual", "residual", x, y))
    x = place("pool", "pooling", x)
    if m.dropout:
        x = place("pool.dropout", "random bits", x)
    place("head", "linear", x)


def mlp(m, place):
    x = ()
    for i in range(len(m.hidden)):
        x = place(f"layer_{i}.activation", "activation", place(f"layer_{i}", "linear", *x)),
        if m.dropout:
            x = place(f"layer_{i}.dropout", "random bits", *x),
    place("head", "linear", *x)


FAMILIES = {"decoder": decoder, "convnet": convnet, "mlp": mlp}
