"""The canonical parameter tree: every tensor's dotted name, shape and first value, in forward order.

A Keras layer's name and a Flax module's path ARE the name without its leaf, so there is no mapping table.
Kernels multiply from the right, (inputs, outputs); convolutions are HWIO.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from twinscale.common.errors import one_of


@dataclass(frozen=True)
class Parameter:
    """One tensor: its shape, and the standard deviation or constant it starts from."""

    shape: tuple
    deviation: float = 0.0  # of the normal distribution its first value is drawn from
    constant: float = 0.0  # its first value where deviation is 0


def parameters(model, classes, example_shape):
    """The canonical tree of a model section of the recipe.

    Args:
      model: a Decoder, ConvNet or MLP section.
      classes: size of the vocabulary, or number of classes.
      example_shape: (T,) for text, (H, W, C) for images.
    Returns: {canonical name: Parameter}, in forward order.
    """
    return one_of(TREES, model.family, "model.family")(model, classes, example_shape)


def decoder(m, classes, example_shape):
    """Names of a decoder; residual outputs start smaller by sqrt(2 x layers) (Radford et al. 2019, section 2.3)."""
    d, tree = m.width, {}

    def norm(name):
        tree[f"{name}.scale"] = Parameter((d,), constant=1.0)
        if one_of({"layer": m.bias, "rms": False}, m.norm, "model.norm"):
            tree[f"{name}.bias"] = Parameter((d,))

    def dense(name, inputs, outputs, shrink=1.0):
        tree[f"{name}.kernel"] = Parameter((inputs, outputs), shrink / math.sqrt(inputs))
        if m.bias:
            tree[f"{name}.bias"] = Parameter((outputs,))

    tree["embedding.embedding"] = Parameter((classes, d), 0.02)
    if not m.rotates:
        tree["position.embedding"] = Parameter((example_shape[0], d), 0.02)
    shrink = 1 / math.sqrt(2 * m.layers)
    for i in range(m.layers):
        block = f"block_{i}"
        norm(f"{block}.norm_1")
        dense(f"{block}.attention.query", d, m.heads * m.head_width)
        dense(f"{block}.attention.key", d, m.kv * m.head_width)
        dense(f"{block}.attention.value", d, m.kv * m.head_width)
        dense(f"{block}.attention.output", m.heads * m.head_width, d, shrink)
        norm(f"{block}.norm_2")
        if m.gated:
            dense(f"{block}.feedforward.gate", d, m.feedforward)
        dense(f"{block}.feedforward.up", d, m.feedforward)
        dense(f"{block}.feedforward.down", m.feedforward, d, shrink)
    norm("norm")
    if not m.tied:
        tree["head.kernel"] = Parameter((d, classes), 1 / math.sqrt(d))
    return tree


def convnet(m, classes, example_shape):
    """Names of a residual network with batch norm; kernels start as in He et al. 2015."""
    tree = {}

    def conv(name, size, inputs, outputs):
        deviation = math.sqrt(2 / (size * size * inputs))
        tree[f"{name}.kernel"] = Parameter((size, size, inputs, outputs), deviation)

    def norm(name, channels):
        tree[f"{name}.scale"] = Parameter((channels,), constant=1.0)
        tree[f"{name}.bias"] = Parameter((channels,))
        tree[f"{name}.mean"] = Parameter((channels,))
        tree[f"{name}.var"] = Parameter((channels,), constant=1.0)

    conv("stem.conv", 3, example_shape[-1], m.channels[0])
    norm("stem.norm", m.channels[0])
    for block in convnet_blocks(m):
        conv(f"{block.name}.conv_1", 3, block.inputs, block.outputs)
        norm(f"{block.name}.norm_1", block.outputs)
        conv(f"{block.name}.conv_2", 3, block.outputs, block.outputs)
        norm(f"{block.name}.norm_2", block.outputs)
        if block.projects:
            conv(f"{block.name}.shortcut", 1, block.inputs, block.outputs)
    last = m.channels[-1]
    tree["head.kernel"] = Parameter((last, classes), 1 / math.sqrt(last))
    tree["head.bias"] = Parameter((classes,))
    return tree


@dataclass(frozen=True)
class Block:
    """One residual block: its name, channels in and out, and stride."""

    name: str
    inputs: int
    outputs: int
    stride: int

    @property
    def projects(self):
        return self.stride != 1 or self.inputs != self.outputs


def convnet_blocks(m):
    """The residual blocks in forward order: every stage but the first opens with stride 2."""
    blocks, inputs = [], m.channels[0]
    for stage, outputs in enumerate(m.channels):
        for i in range(m.blocks):
            stride = 2 if stage and not i else 1
            blocks.append(Block(f"stage_{stage}.block_{i}", inputs, outputs, stride))
            inputs = outputs
    return blocks


def mlp(m, classes, example_shape):
    """Names of a multi-layer perceptron; kernels start as in He et al. 2015."""
    tree, inputs = {}, math.prod(example_shape)
    for i, outputs in enumerate(m.hidden):
        tree[f"layer_{i}.kernel"] = Parameter((inputs, outputs), math.sqrt(2 / inputs))
        tree[f"layer_{i}.bias"] = Parameter((outputs,))
        inputs = outputs
    tree["head.kernel"] = Parameter((inputs, classes), 1 / math.sqrt(inputs))
    tree["head.bias"] = Parameter((classes,))
    return tree


TREES = {"decoder": decoder, "convnet": convnet, "mlp": mlp}


def initial_values(tree, seed, dtype, dither=0.0):
    """First values of a canonical tree: bitwise equal for every backend, mesh and order of creation.

    Each name has a counter-based stream of its own (Philox, keyed by the seed and the name's BLAKE2b), drawn in
    float64, then cast to `dtype`. With `dither`, each value v becomes v (1 + u), u uniform in [-dither, dither].
    """
    return {name: initial_value(name, parameter, seed, dtype, dither) for name, parameter in tree.items()}


def initial_value(name, parameter, seed, dtype, dither=0.0):
    """The first value of one tensor, an array of `parameter.shape` and `dtype`."""
    value = np.full(parameter.shape, parameter.constant)
    if parameter.deviation:
        value = stream(seed, name).standard_normal(parameter.shape) * parameter.deviation
    if dither:
        value = value * dithering(seed, name, dither, parameter.shape)
    return value.astype(dtype)


def dithering(seed, name, dither, shape):
    """What a tensor is multiplied by to be dithered: 1 + u, u uniform in [-dither, dither], float64 of `shape`."""
    return 1 + stream(seed, name, "dither").uniform(-dither, dither, shape)


def stream(*words):
    """A NumPy generator of its own for the words (a seed, names): counter-based, keyed by their BLAKE2b."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def is_trained(name):
    """Whether the optimizer moves a tensor; running statistics, and what a stage of `common/compress.py` has besides
    the weights, are moved by the forward pass, and a teacher never."""
    moved = (".mean", ".var", "_mask", "_clustered", "_range", ".range")
    return not name.endswith(moved) and not name.startswith("teacher.")


def is_decayed(name):
    """Whether weight decay applies to a tensor: kernels and tables, never biases and norms."""
    return name.endswith((".kernel", ".embedding"))


def longest_sum(tree):
    """Values that one output of the tree's largest kernel adds up."""
    return max(math.prod(p.shape[:-1]) for name, p in tree.items() if name.endswith(".kernel"))


def trained_size(tree):
    """Number of trained values, N in the scaling laws (embeddings included)."""
    return sum(math.prod(p.shape) for name, p in tree.items() if is_trained(name))
