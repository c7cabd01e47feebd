"""What the operations of our models should give, in np.longdouble, and the scale by which each element is judged.

What the references are worth: x86's longdouble has 64 bits, so a reference errs by some 2^-11 eps of float64 an
operation; its exp, log, tanh, sin and cos are the C library's, within an ulp of theirs; erf is the series below, good
to 2^-7 eps of float64 at worst.

A reference takes a Format and an operation's inputs and gives [(wanted, scale)], one for each output. The scale is what
a backward stable computation can hope for, |x| @ |w| for a product, and holds a term for each quantity whose own error
is carried into the result (its condition).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscale.common.families import FAMILIES
from twinscale.common.numbers.formats import EPS, TINY
from twinscale.common.optimizers import OPTIMIZERS
from twinscale.common.recipe.schema import Recipe
from twinscale.common.registry import load
from twinscale.common.section import FreeTable

Wide = np.longdouble

# Shapes: small, but with an odd side, more rows than ids, and sums long enough for their order to matter.
B, T, WIDTH, HIDDEN, CLASSES = 4, 16, 64, 256, 50
HEAD, HEADS, KV = 64, 2, 1  # attention is tried on HEAD positions of HEAD wide heads: identities fit, 1 / 8 is exact
IMAGE, CHANNELS = (9, 8), (8, 16)
PLANE = (33, 32)  # what batch norm and pooling average over
ELEMENTS = (B, 256)
RATE, PLACE = 0.1, "embedding.dropout"
SMOOTHING, Z_LOSS, CLIP = 0.1, 1e-4, 1.0
NORM_EPSILON, NORM_MOMENTUM, ROTARY_BASE = 1e-5, 0.9, 10000.0
KERNEL, BIAS = "layer_0.kernel", "layer_0.bias"  # the tensors that the optimizers move, one of them decayed


@dataclass(frozen=True)
class Format:
    """A floating-point format: its name, eps (spacing above 1), smallest normal number, and a large value."""

    name: str
    eps: float
    tiny: float
    large: float

    def size(self, x: Any) -> Any:
        """|x|, but no less than what makes a flush to zero one eps of the dtype that computes."""
        return np.maximum(np.abs(x), self.tiny / min(self.eps, EPS["float32"]))

    def norm(self, tensors: Iterable[Any]) -> Any:
        """The root of the sum of squares in the format's range: infinite where the sum is above it, 0 below."""
        total = sum((x**2).sum() for x in tensors)
        top = np.finfo(np.float64 if self.name == "float64" else np.float32).max
        return np.sqrt(Wide(0) if total < self.tiny else Wide(np.inf) if total > top else total)


FORMATS = {name: Format(name, EPS[name], TINY[name], 1e100 if name == "float64" else 1e15) for name in EPS}
DTYPES = tuple(FORMATS)

# Models that hold the operations, as small as they can be.
DECODER = FreeTable(family="decoder", layers=1, width=WIDTH, hidden=HIDDEN, heads=HEADS, kv_heads=KV, dropout=RATE,
                    norm_epsilon=NORM_EPSILON, rotary_base=ROTARY_BASE)
CONVNET = FreeTable(family="convnet", channels=CHANNELS, norm_epsilon=NORM_EPSILON, norm_momentum=NORM_MOMENTUM)
MLP = FreeTable(family="mlp", hidden=(HIDDEN,))


def recipe_of(dtype: str, holding: Any, **sections: Any) -> Recipe:
    """The recipe of a model that holds operations; sections are laid over it."""
    data = {"source": "stdlib", "sequence": T} if load(FAMILIES, holding["family"]).text else {"source": "digits"}
    values: dict[str, Any] = {"name": "operations", "data": data, "model": dict(holding),
              "train": {"precision": dtype, "global_batch": B}, "jax": {"scan": False}}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return Recipe.model_validate(values)


def shape_of(model: Mapping[str, Any], length: int = T) -> tuple:
    """The example shape of a model that holds operations, on `length` tokens or small images."""
    return (length,) if load(FAMILIES, model["family"]).text else (*IMAGE, CHANNELS[0])


def trial_of(name: str) -> dict[str, Any]:
    """The section of a recipe that an optimizer is tried with."""
    return {"name": name, "learning_rate": 1e-2, "weight_decay": 0.1, "ema": 0.9, **load(OPTIMIZERS, name).tried}


def moment_of(slot: str) -> int:
    """Which of `common.operations.judge.optimizer_cases`' moments a slot is tried with: the second is never
    negative."""
    return int(slot.startswith("v"))


LOSSES = {"cross-entropy": {}, "label smoothing": {"label_smoothing": SMOOTHING}, "z-loss": {"z_loss": Z_LOSS}}

# ---- activations

PI = Wide(4) * np.arctan(Wide(1))
GELU_C, GELU_A = np.sqrt(2 / PI), Wide(0.044715)


def erf(x: Any) -> Any:
    """2 / sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!!, whose terms have one sign (Abramowitz & Stegun 7.1.6)."""
    a = np.minimum(np.abs(x), 7)  # 1 - erf(7) = 4e-23
    term = total = a
    for n in range(1, 250):  # at 7, where most are needed, the last is 2^-70 of the sum
        term = term * (2 * a * a / (2 * n + 1))
        total = total + term
    return np.sign(x) * 2 / np.sqrt(PI) * np.exp(-a * a) * total


def logistic(x: Any) -> Any:
    """1 / (1 + e^-x), by e^-|x| alone, so that nothing overflows."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


def gelu(f: Format, x: Any) -> list:
    """x Phi(x), by the error function."""
    return [(x * (1 + erf(x / np.sqrt(Wide(2)))) / 2, f.size(x))]


def gelu_gradient(f: Format, x: Any, dy: Any) -> list:
    """Its derivative, Phi(x) + x phi(x), times dy."""
    density = np.exp(-x * x / 2) / np.sqrt(2 * PI)
    value = (1 + erf(x / np.sqrt(Wide(2)))) / 2 + x * density
    return [(dy * value, np.abs(dy) * (1 + np.abs(x) * density * (1 + x * x)))]


def gelu_tanh(f: Format, x: Any) -> list:
    """The same by the usual approximation with tanh."""
    return [(x * (1 + np.tanh(GELU_C * (x + GELU_A * x**3))) / 2, f.size(x))]


def gelu_tanh_gradient(f: Format, x: Any, dy: Any) -> list:
    """1 - tanh^2 is no better than tanh, 1, until that is 1 in every dtype."""
    inner, slope = GELU_C * (x + GELU_A * x**3), GELU_C * (1 + 3 * GELU_A * x * x)
    bent = np.abs(inner) < 20
    value = (1 + np.tanh(inner)) / 2 + np.where(bent, x * slope / np.cosh(np.where(bent, inner, 0)) ** 2 / 2, 0)
    return [(dy * value, np.abs(dy) * (1 + np.where(bent, np.abs(x) * slope, 0)))]


def swiglu(f: Format, gate: Any, up: Any) -> list:
    """gate logistic(gate) up."""
    return [(gate * logistic(gate) * up, f.size(gate) * f.size(up))]


def swiglu_gradient(f: Format, gate: Any, up: Any, dy: Any) -> list:
    """By the gate, and by what it is multiplied by."""
    share = logistic(gate)
    slope = share * (1 + gate * (1 - share))
    return [(dy * up * slope, np.abs(dy) * f.size(up) * (1 + np.minimum(np.abs(gate), 40))),
            (dy * gate * share, np.abs(dy) * f.size(gate))]


def relu(f: Format, x: Any) -> list:
    """x where it is above 0, else 0."""
    return [(np.maximum(x, 0), np.abs(x))]


def relu_gradient(f: Format, x: Any, dy: Any) -> list:
    """0 at 0; at a subnormal x, which may be flushed, either."""
    return [(np.where(x > 0, dy, 0), np.where((np.abs(x) < f.tiny) & (x != 0), np.inf, np.abs(dy)))]


# ---- products and attention

def dense(f: Format, x: Any, w: Any, b: Any = 0) -> list:
    """x @ w + b."""
    return [(x @ w + b, f.size(x) @ np.abs(w) + np.abs(b))]


def dense_gradient(f: Format, x: Any, w: Any, b: Any, dy: Any) -> list:
    """By x, w and b."""
    flat, back = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return [(dy @ w.T, np.abs(dy) @ np.abs(w).T), (flat.T @ back, f.size(flat).T @ np.abs(back)),
            (back.sum(0), np.abs(back).sum(0))]


def tied_head(f: Format, x: Any, table: Any) -> list:
    """x @ w with the transposed table for w."""
    return dense(f, x, table.T)


def tied_head_gradient(f: Format, x: Any, table: Any, dy: Any) -> list:
    """By x, and by the table."""
    (dx, dx_scale), (dw, dw_scale), _ = dense_gradient(f, x, table.T, 0, dy)
    return [(dx, dx_scale), (dw.T, dw_scale.T)]


def shares_of(f: Format, q: Any, k: Any, segments: Any, exact: bool) -> tuple:
    """(shares, their scale) (B, H, T, T): a share errs by what its own logit and, weighed, all others do: |s - max| of
    the subtraction and, where scores are products of more than one term, their own scale |q| |k|."""
    k = np.repeat(k, HEADS // KV, 2)
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(Wide(HEAD))
    allowed = np.tril(np.ones((HEAD, HEAD), bool)) & (segments[:, None, :, None] == segments[:, None, None, :])
    below = np.where(allowed, scores, -np.inf)
    below = below - below.max(-1, keepdims=True)
    shares = np.exp(below)
    shares = shares / shares.sum(-1, keepdims=True)
    loose = np.where(allowed, -below, 0)
    if not exact:
        loose = loose + np.where(allowed, np.einsum("bthd,bshd->bhts", np.abs(q), np.abs(k)), 0) / np.sqrt(Wide(HEAD))
    return shares, shares * (1 + loose + (shares * loose).sum(-1, keepdims=True))


def attend(exact: bool) -> Callable[..., list]:
    """The output (B, T, H D) of attention."""
    def reference(f, q, k, v, segments):
        shares, scale = shares_of(f, q, k, segments, exact)
        v = np.repeat(v, HEADS // KV, 2)
        return [tuple(np.einsum("bhts,bshd->bthd", a, b).reshape(*q.shape[:2], -1)
                      for a, b in ((shares, v), (scale, f.size(v))))]

    return reference


def attend_gradient(f: Format, q: Any, k: Any, v: Any, segments: Any, dy: Any) -> list:
    """Of q and v, for the exact scores of k = I: ds = p (dp - sum p dp), with dp = dy v^T."""
    shares, scale = shares_of(f, q, k, segments, True)
    dy = dy.reshape(*q.shape)
    wide_k, wide_v = (np.repeat(x, HEADS // KV, 2) for x in (k, v))

    def back(p, dp, sign):
        ds = p * (dp + sign * (shares * dp).sum(-1, keepdims=True))
        return np.einsum("bhts,bshd->bthd", ds, wide_k) / np.sqrt(Wide(HEAD))

    def dv(p, dy):
        each = np.einsum("bhts,bthd->bshd", p, dy)
        return each.reshape(*each.shape[:2], KV, HEADS // KV, HEAD).sum(3)

    dp = np.einsum("bthd,bshd->bhts", dy, wide_v)
    return [(back(shares, dp, -1), back(scale, np.abs(dp), 1)), (dv(shares, dy), dv(scale, np.abs(dy)))]


# ---- norms

def normalized(f: Format, x: Any, axes: Any, centred: bool) -> tuple:
    """(z, its scale, 1 / deviation, mean, variance, scale of the mean): where the mean is large against the deviation,
    z inherits the rounding of x - mean, or of x / deviation - mean / deviation."""
    mean = x.mean(axes, keepdims=True) if centred else Wide(0)
    variance = ((x - mean) ** 2).mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + Wide(NORM_EPSILON))
    around = f.size(x).mean(axes, keepdims=True)
    z = (x - mean) * inverse
    return z, f.size(x - mean) * inverse + (around * inverse if centred else 0), inverse, mean, variance, around


def norm(centred: bool, axes: Any = -1) -> Callable[..., list]:
    """A norm over some axes, `centred` on the mean or not."""
    def reference(f, x, scale, bias=0, moving_mean=None, moving_variance=None):
        z, z_scale, _, mean, variance, around = normalized(f, x, axes, centred)
        found = [(z * scale + bias, z_scale * np.abs(scale) + np.abs(bias))]
        if moving_mean is not None:
            keep, mean, variance, around = Wide(NORM_MOMENTUM), *(s.reshape(-1) for s in (mean, variance, around))
            found += [(keep * moving_mean + (1 - keep) * mean, keep * np.abs(moving_mean) + (1 - keep) * around),
                      (keep * moving_variance + (1 - keep) * variance, keep * moving_variance + (1 - keep) * variance)]
        return found

    return reference


def norm_gradient(centred: bool, axes: Any = -1) -> Callable[..., list]:
    """dx = (h - mean h - z mean(h z)) / deviation, h = scale dy (Ioffe & Szegedy 2015, section 3)."""
    def reference(f, x, scale, *rest):
        z, z_scale, inverse, *_ = normalized(f, x, axes, centred)
        *_, dy = rest
        h, leading = dy * scale, tuple(range(x.ndim - 1))
        dx = h - z * (h * z).mean(axes, keepdims=True)
        dx_scale = np.abs(h) + z_scale * (np.abs(h) * z_scale).mean(axes, keepdims=True)
        if centred:
            dx, dx_scale = dx - h.mean(axes, keepdims=True), dx_scale + np.abs(h).mean(axes, keepdims=True)
        found = [(dx * inverse, dx_scale * inverse), ((dy * z).sum(leading), (np.abs(dy) * z_scale).sum(leading))]
        return found + ([(dy.sum(leading), np.abs(dy).sum(leading))] if centred else [])

    return reference


# ---- positions, tables and images

def rotary(f: Format, x: Any, positions: Any) -> list:
    """Angles of a float64 table are rounded themselves: cos and sin are off by two eps of the angle."""
    half = HEAD // 2
    angles = positions[..., None, None] * Wide(ROTARY_BASE) ** (-np.arange(half, dtype=Wide) / half)
    (a, b), cos, sin = np.split(x, 2, -1), np.cos(angles), np.sin(angles)
    size = (f.size(a) + f.size(b)) * (1 + (angles if f.name == "float64" else 0))
    return [(np.concatenate([a * cos - b * sin, b * cos + a * sin], -1), np.concatenate([size, size], -1))]


def embedding(f: Format, ids: Any, table: Any) -> list:
    """The rows of a table that ids name."""
    return [(table[ids], np.abs(table[ids]))]


def embedding_gradient(f: Format, ids: Any, table: Any, dy: Any) -> list:
    """By the table: the sum of what each of its rows was given for."""
    def sums(values):
        total = np.zeros_like(table)
        np.add.at(total, ids, values)
        return total

    return [(sums(dy), sums(np.abs(dy)))]


def padded(x: Any, stride: int) -> tuple:
    """x with SAME padding for a kernel of 3: of an odd padding the greater half comes after."""
    pads = [max((-(-n // stride) - 1) * stride + 3 - n, 0) for n in x.shape[1:3]]
    return np.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0))), [p // 2 for p in pads]


def windows(height: int, width: int, stride: int) -> Iterator[tuple]:
    """(i, j, the slices of a padded input that kernel element i, j meets)."""
    for i in range(3):
        for j in range(3):
            yield i, j, (slice(None), slice(i, i + height * stride, stride), slice(j, j + width * stride, stride))


def conv(stride: int) -> Callable[..., list]:
    """A convolution of a stride with SAME padding."""
    def reference(f, x, kernel):
        height, width = (-(-n // stride) for n in x.shape[1:3])

        def convolved(x, kernel):
            wide, _ = padded(x, stride)
            return sum(wide[at][:, :height, :width] @ kernel[i, j] for i, j, at in windows(height, width, stride))

        return [(convolved(x, kernel), convolved(f.size(x), np.abs(kernel)))]

    return reference


def conv_gradient(stride: int) -> Callable[..., list]:
    """By x, and by the kernel."""
    def reference(f, x, kernel, dy):
        def back(x, kernel, dy):
            wide, (top, left) = padded(x, stride)
            dx, dk = np.zeros_like(wide), np.zeros_like(kernel)
            for i, j, at in windows(*dy.shape[1:3], stride):
                dx[at] += dy @ kernel[i, j].T
                dk[i, j] = np.einsum("bhwc,bhwd->cd", wide[at], dy)
            return dx[:, top:top + x.shape[1], left:left + x.shape[2]], dk

        return list(zip(back(x, kernel, dy), back(f.size(x), np.abs(kernel), np.abs(dy)), strict=True))

    return reference


def pool(f: Format, x: Any) -> list:
    """The mean over height and width."""
    return [(x.mean((1, 2)), f.size(x).mean((1, 2)))]
