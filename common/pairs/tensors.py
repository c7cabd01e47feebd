"""What a program says of its tensors, and how alike two names are."""

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

# What the last part of a path says of a tensor, in the words of Keras, Flax, Haiku and PyTorch.
ROLES = {
    "kernel": ("kernel", "w", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel"),
    "embedding": ("embedding", "embeddings", "embed"), "bias": ("bias", "beta", "b", "offset"),
    "scale": ("scale", "gamma", "g"), "mean": ("mean", "moving_mean", "running_mean"),
    "var": ("var", "moving_variance", "running_var", "variance")}
ROLE_OF = {word: role for role, words in ROLES.items() for word in words}
TABLES = ("kernel", "embedding", None)  # roles of tensors that have two dimensions or more
HEADS = {"q", "k", "v", "query", "key", "value", "qkv", "kv"}
RANK_ROLES = {0: "scale", 1: "bias"}  # where the name says nothing
# Words that mean one thing in different hands.
SYNONYMS = {
    "q": "query", "k": "key", "v": "value", "o": "output", "out": "output", "proj": "output", "projection": "output",
    "wq": "query", "wk": "key", "wv": "value", "wo": "output", "wte": "token embedding", "wpe": "position embedding",
    "tok": "token", "word": "token", "pos": "position", "emb": "embedding", "embed": "embedding",
    "embeddings": "embedding", "ln": "norm", "layernorm": "norm", "rmsnorm": "norm", "normalization": "norm",
    "bn": "norm", "batchnorm": "norm", "fc": "dense", "linear": "dense", "lin": "dense", "mlp": "feedforward",
    "ffn": "feedforward", "ff": "feedforward", "up": "intermediate", "fc1": "intermediate", "fc2": "output",
    "down": "output", "attn": "attention", "sa": "attention", "mha": "attention", "pooled": "pooler",
    "reverse": "head", "logits": "head", "classifier": "head", "cls": "class", "conv2d": "conv",
    "convolution": "conv", "c": "", "lm": "", "before": "attention", "input": "attention", "after": "feedforward",
    "post": "feedforward"}
SEPARATED = re.compile(r"[/._\-\s]+")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a program: its own path, parts joined by "/", its shape, and whether an optimizer moves it, or the
    forward pass (running statistics)."""

    path: str
    shape: tuple[int, ...]
    trained: bool = True

    @property
    def module(self) -> str:
        """The path without its last part."""
        return self.path.rpartition("/")[0]

    @property
    def home(self) -> str:
        """The module, and what else the last part says where its words carry the role: "attn/qkv" of attn/qkv_w."""
        rest, _ = _parted(self.path, len(self.shape))
        return "/".join(filter(None, (self.module, rest)))

    @property
    def role(self) -> str:
        """kernel, embedding, bias, scale, mean or var, by its name; where that says nothing, by its rank."""
        _, word = _parted(self.path, len(self.shape))
        if word == "weight":
            return "kernel" if len(self.shape) > 1 else "scale"
        return ROLE_OF.get(word) or RANK_ROLES.get(len(self.shape), "kernel")


@lru_cache(65536)
def _parted(path, rank):
    """(what else the last part of a path says, the word of it that tells the role); "" where there is none."""
    leaf = path.rpartition("/")[2]
    if leaf.lower() == "weight" or leaf.lower() in ROLE_OF:
        return "", leaf.lower()
    for found in (re.fullmatch(r"(?P<rest>.+?)[_.](?P<word>(?:[a-z]+(?=_mean|_var|_kernel)_)?[a-zA-Z]+)", leaf),
                  re.fullmatch(r"(?P<word>[a-zA-Z]+)[_.]?(?P<rest>\d+)", leaf),
                  re.fullmatch(r"(?P<word>[a-zA-Z]+)[_.](?P<rest>.+)", leaf)):
        word = found["word"].lower() if found else ""
        # A table of biases, of positions, is none; one of queries, keys and values by head is.
        of_heads = rank < 2 or word == "b" or HEADS & set(leaf.lower().split("_")) or ROLE_OF.get(word) in TABLES
        if (word == "weight" or word in ROLE_OF) and of_heads:
            return found["rest"], word
    return "", ""


def block_of(path: str) -> tuple[str, int]:
    """(the path with "#" for its first number, the number); the path and 0 where there is none. "dense_1/kernel" is of
    block 1 as well as "layers/1/kernel"."""
    found = re.search(r"(?<![a-zA-Z0-9])\d+(?![a-zA-Z0-9])|(?<=[a-zA-Z])\d+(?=[/_]|$)", path)
    return (path[:found.start()] + "#" + path[found.end():], int(found[0])) if found else (path, 0)


@lru_cache(4096)
def words(path: str) -> tuple[str, ...]:
    """The words of a path, as SYNONYMS has them; numbers at their ends are left out."""
    plain = SEPARATED.split(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).lower())
    found = []
    for word in plain:
        stem = re.sub(r"\d+$", "", word)
        found += SYNONYMS.get(word, SYNONYMS.get(stem, stem)).split()
    return tuple(found)


@lru_cache(65536)
def likeness(a: str, b: str) -> float:
    """How alike the words of two paths are, from 0 to 2: the best partner of each, both ways."""
    return alike(words(a), words(b))


@lru_cache(65536)
def alike(one: tuple[str, ...], other: tuple[str, ...]) -> float:
    """How alike words are, from 0 to 2."""
    return _near(one, other) + _near(other, one) if one and other else 0.0


def _near(one, other):
    return sum(max(_ratio(x, y) for y in other) for x in one) / len(one)


@lru_cache(65536)
def _ratio(x, y):
    return difflib.SequenceMatcher(None, x, y).ratio()
