"""How a tensor lies in one program and in another: steps that move elements, as data with a text that a person edits.

    transpose 1 0 | reshape 4 8 16 | slice 1 0 64 | pad 0 3 | join 1

Steps go from left to right over a list of arrays; `join AXIS` makes one of them. Sources: the layouts of Keras'
EinsumDense and MultiHeadAttention, Flax' DenseGeneral, and PyTorch's Linear and Conv2d, each by its documentation.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from twinscale.common.errors import BadInput

Step = tuple  # (name, *integers)
Steps = tuple[Step, ...]
SIZES = {"transpose": None, "reshape": None, "slice": 3, "pad": 2, "join": 1}  # integers that a step takes
MOST_PADDING = 1024  # rows by which a vocabulary may be longer on one side
SAMPLE = 1024  # elements that are followed through steps, to see whether two ways are one


def text_of(steps: Steps) -> str:
    """The text of steps, "" of none."""
    return " | ".join(" ".join(map(str, step)) for step in steps)


def steps_of(text: str) -> Steps:
    """The steps of a text; raises BadInput with what is wrong."""
    found = []
    for part in filter(None, (part.strip() for part in text.split("|"))):
        name, *numbers = part.split()
        if name not in SIZES:
            raise BadInput(f"{part}: no step is called {name}: {', '.join(SIZES)} are known")
        if not all(number.lstrip("-").isdigit() for number in numbers) or SIZES[name] not in (None, len(numbers)):
            wanted = f"{SIZES[name]} integers" if SIZES[name] else "integers"
            raise BadInput(f"{part}: {name} takes {wanted}")
        found.append((name, *map(int, numbers)))
    return tuple(found)


def turned(steps: Steps, arrays: Sequence[Any], xp: Any = np) -> Any:
    """The one array that steps make of others.

    Args:
      steps: what is done, from left to right.
      arrays: of any library whose functions `transpose`, `reshape`, `concatenate` and `pad` are NumPy's.
      xp: the library: numpy, jax.numpy or keras.ops.
    Raises BadInput where a step does not fit.
    """
    arrays = list(arrays)
    for name, *numbers in steps:
        try:
            if name == "join":
                arrays = [xp.concatenate(arrays, axis=numbers[0])]
            else:
                arrays = [_moved(name, numbers, x, xp) for x in arrays]
        except (ValueError, IndexError, TypeError) as error:
            shapes = ", ".join(str(tuple(x.shape)) for x in arrays)
            raise BadInput(f"{' '.join(map(str, (name, *numbers)))}: does not fit {shapes}: {error}") from None
    if len(arrays) != 1:
        raise BadInput(f"{text_of(steps) or 'no step'}: makes no one array of {len(arrays)}: join AXIS does")
    return arrays[0]


def _moved(name, numbers, x, xp):
    if name == "transpose":
        return xp.transpose(x, tuple(numbers))
    if name == "reshape":
        return xp.reshape(x, tuple(numbers))
    axis, *of = numbers
    if name == "slice":
        if not 0 <= of[0] < of[1] <= x.shape[axis]:
            raise ValueError(f"{of[0]} to {of[1]} of {x.shape[axis]}")
        return x[(slice(None),) * axis + (slice(*of),)]
    return xp.pad(x, [(0, of[0] if i == axis else 0) for i in range(len(x.shape))])


def shape_after(steps: Steps, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that steps make of arrays of some shapes. Raises BadInput where they do not fit."""
    return turned(steps, [np.broadcast_to(np.zeros((), np.int8), shape) for shape in shapes]).shape


def layouts(a: tuple[int, ...], b: tuple[int, ...]) -> list[Steps]:
    """Ways in which a tensor of shape a may lie as one of shape b, the likeliest first; none where it cannot.

    As it is; another shape of the same elements in their order; the axes of a convolution in the other order, or all
    turned; then every order of axes, before and after a change of shape. Of a vocabulary that one
    side has padded: the rows that both have.
    """
    return list(_layouts(tuple(a), tuple(b)))


@lru_cache(4096)
def _layouts(a, b):
    if math.prod(a) != math.prod(b):
        return _padded(a, b)
    usual = [(3, 2, 0, 1), (2, 3, 1, 0), tuple(range(len(a)))[::-1]]  # a convolution's axes, then all turned
    found: list[Steps] = [_reshaped(a, b)] if _is_aligned(a, b) else []
    found += [(("transpose", *order), *_reshaped(tuple(a[i] for i in order), b))
              for order in sorted(itertools.permutations(range(len(a))), key=lambda order: order not in usual)
              if _is_aligned(tuple(a[i] for i in order), b)]
    for order in itertools.permutations(range(len(b))):
        before = tuple(b[order.index(i)] for i in range(len(b)))
        if before != a and _is_aligned(a, before):
            found.append((*_reshaped(a, before), ("transpose", *order)))
    size = math.prod(a)
    distinct: dict = {}
    for steps in found:  # what moves elements alike is one
        distinct.setdefault(_origins(steps, a, _picks(size)).tobytes(), steps)
    return list(distinct.values())


def turned_among(ways: Sequence[Steps], a: tuple[int, ...], b: tuple[int, ...]) -> int | None:
    """Which of some ways turns a matrix of shape a or b, of which one may have heads as axes; None where none does."""
    if 2 not in (len(a), len(b)) or len(a) + len(b) > 5 or math.prod(a) != math.prod(b):
        return None
    turn: Steps = (*_reshaped(a, b[::-1]), ("transpose", 1, 0)) if len(b) == 2 else (("transpose", 1, 0), *_reshaped(
        a[::-1], b))
    wanted = _origins(turn, a, _picks(math.prod(a)))
    return next((k for k, steps in enumerate(ways) if all(step[0] in ("transpose", "reshape") for step in steps)
                 and (_origins(steps, a, _picks(math.prod(a))) == wanted).all()), None)


def _picks(size):
    return np.arange(size) if size <= SAMPLE else np.random.default_rng(0).integers(0, size, SAMPLE)


def _origins(steps, shape, places):
    """Where elements at some places of what steps make, a transpose or a reshape each, come from: both counted row by
    row. It takes no time of the tensor's size."""
    shapes = [shape]
    for name, *numbers in steps:
        shapes.append(tuple(shapes[-1][i] for i in numbers) if name == "transpose" else tuple(numbers))
    for (name, *numbers), before, after in zip(steps[::-1], shapes[-2::-1], shapes[:0:-1], strict=True):
        if name == "transpose":
            found = np.unravel_index(places, after)
            places = np.ravel_multi_index([found[numbers.index(i)] for i in range(len(before))], before)
    return np.asarray(places)


def _reshaped(a, b):
    return () if a == b else (("reshape", *b),)


def _is_aligned(a, b):
    """Whether b splits or merges axes of a that lie beside each other: products from the left meet."""
    ends = [set(itertools.accumulate(shape, lambda x, y: x * y)) for shape in (a, b)]
    smaller, larger = sorted(ends, key=len)
    return smaller <= larger


def _padded(a, b):
    if len(a) != len(b):
        return []
    axes = [i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
    if len(axes) != 1 or abs(a[axes[0]] - b[axes[0]]) > MOST_PADDING:
        return []
    axis, more = axes[0], b[axes[0]] - a[axes[0]]
    return [(("pad", axis, more),)] if more > 0 else [(("slice", axis, 0, b[axis]),)]


def flattened(a: tuple[int, ...], b: tuple[int, ...], channels: Sequence[int]) -> Iterator[Steps]:
    """Layouts of a dense kernel whose rows are an image's values, (H, W, C) on one side and (C, H, W) on the other, for
    each number of channels that there may be."""
    for turn in ([()] if a == b else []) + ([(("transpose", 1, 0),)] if a[::-1] == b else []):
        rows, outputs = a
        for split, order in images(rows, channels):
            yield (("reshape", *split, outputs), ("transpose", *order, 3), ("reshape", rows, outputs), *turn)


def imaged(a: tuple[int, ...], b: tuple[int, ...], channels: Sequence[int]) -> Iterator[tuple[tuple, Steps]]:
    """(image, steps) of a dense kernel that makes an image, or of a vector beside it: columns are (H, W, C) on one side
    and (C, H, W) on the other. Tensors of one image lie alike: an image is what `images` has."""
    for split, order in images(a[-1], channels):
        if len(a) == 1:
            yield (split, order), (("reshape", *split), ("transpose", *order), ("reshape", *b))
            continue
        turns: list[Steps] = [(("reshape", *a),)] if a == b else []
        turns += [(("reshape", *a), ("transpose", 1, 0))] if a[::-1] == b else []
        for turn in turns:
            yield (split, order), (("reshape", a[0], *split), ("transpose", 0, *(1 + i for i in order)), *turn)


def images(size: int, channels: Sequence[int]) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """(shape of an image of so many values, order of its axes on the other side): channels last, then first."""
    for c in channels:
        if c < 2 or size % c or size == c:
            continue
        for h in _sides(size // c):
            yield (h, size // c // h, c), (2, 0, 1)
            yield (c, h, size // c // h), (1, 2, 0)


def _sides(area):
    """Heights that an image of some pixels may have, the squarest first."""
    return sorted((h for h in range(1, area + 1) if area % h == 0), key=lambda h: abs(h - math.sqrt(area)))[:4]


Arranged = tuple[int, Any]  # how several tensors lie in one: 0 side by side, else by so many heads; and the steps


def fused(parts: Sequence[tuple[int, ...]], whole: tuple[int, ...], heads: Sequence[int], vectors: bool = False
          ) -> Iterator[Arranged]:
    """Ways in which several tensors, such as the kernels of queries, keys and values, may lie in one: side by side, or
    by head, turned or not, each with its Steps.

    Args:
      parts: their shapes, in the order in which they lie.
      whole: the shape of the one.
      heads: numbers of heads to try.
      vectors: they are biases, however many dimensions they have.
    """
    sizes = [math.prod(shape) for shape in parts]
    if sum(sizes) != math.prod(whole):
        return
    counts = [count for count in heads if len(set(parts)) == 1]
    if vectors or len(whole) == 1 or max(map(len, parts)) == 1:
        yield 0, (("reshape", -1), ("join", 0), *_reshaped((sum(sizes),), whole))
        yield from ((count, (("reshape", count, -1), ("join", 1), ("reshape", *whole)))
                    for count in counts if sizes[0] % count == 0)
        return
    axes = _axes_of_parts(parts, whole)
    for axis, count, rest in axes:
        for steps in layouts(parts[0], rest):
            yield count, (*steps, ("reshape", *rest[:axis], 1, *rest[axis:]), ("join", axis))
    for inputs, flat in _matrices(parts[0]) if not axes else ():
        if any(size % inputs for size in sizes):
            continue
        total = sum(sizes) // inputs
        for steps in layouts((inputs, total), whole):
            yield 0, (*flat, ("join", 1), *steps)
            for count in counts:
                if sizes[0] // inputs % count == 0:
                    by_head = ("reshape", inputs, count, -1), ("join", 2), ("reshape", inputs, total)
                    yield count, (*flat, *by_head, *steps)


def _axes_of_parts(parts, whole):
    """(axis, heads, shape of one part) for each axis of a tensor of three dimensions and more that may number equal
    parts: before heads that is side by side, behind them by head."""
    if len(whole) < 3 or len(set(parts)) > 1:
        return []
    found = []
    for axis, size in enumerate(whole):
        if size == len(parts):
            before = math.prod(whole[:axis])
            inputs = next((n for n in (parts[0][0], parts[0][-1]) if before % n == 0), 1)
            found.append((axis, before // inputs if before > inputs else 0, whole[:axis] + whole[axis + 1:]))
    return found


def _matrices(shape):
    """(inputs, steps to a matrix (inputs, outputs)) of a kernel whose inputs come first, last, or between."""
    yield shape[0], (("reshape", shape[0], -1),)
    if len(shape) > 1:
        yield shape[-1], (("reshape", -1, shape[-1]), ("transpose", 1, 0))
    for axis in range(1, len(shape) - 1):
        order = axis, *(i for i in range(len(shape)) if i != axis)
        yield shape[axis], (("transpose", *order), ("reshape", shape[axis], -1))


def cut(whole: tuple[int, ...], parts: Sequence[tuple[int, ...]], heads: Sequence[int], vectors: bool = False
        ) -> Iterator[Arranged]:
    """Ways in which one tensor may be cut into several, `fused` the other way round, each with the Steps of every
    part."""
    sizes = [math.prod(shape) for shape in parts]
    if sum(sizes) != math.prod(whole):
        return
    counts = [count for count in heads if len(set(parts)) == 1]
    if vectors or len(whole) == 1 or max(map(len, parts)) == 1:
        yield 0, tuple((("reshape", -1), ("slice", 0, *span), *_reshaped((span[1] - span[0],), shape))
                       for span, shape in zip(_spans(sizes), parts, strict=True))
        yield from ((count, tuple((("reshape", count, -1), ("slice", 1, *span), ("reshape", *shape)) for span, shape in
                                  zip(_spans([size // count for size in sizes]), parts, strict=True)))
                    for count in counts if sizes[0] % count == 0)
        return
    axes = _axes_of_parts(parts, whole)
    for axis, count, rest in axes:
        for steps in layouts(rest, parts[0]):
            yield count, tuple((("slice", axis, i, i + 1), ("reshape", *rest), *steps) for i in range(len(parts)))
    for inputs, flat in _matrices(whole) if not axes else ():
        if any(size % inputs for size in sizes):
            continue
        widths = [size // inputs for size in sizes]
        ways = [layouts((inputs, width), shape) for width, shape in zip(widths, parts, strict=True)]
        for chosen in zip(*ways, strict=False):
            yield 0, tuple((*flat, ("slice", 1, *span), *steps)
                           for span, steps in zip(_spans(widths), chosen, strict=True))
            for count in counts:
                if widths[0] % count == 0:
                    by_head = (*flat, ("reshape", inputs, count, -1))
                    yield count, tuple((*by_head, ("slice", 2, *span), ("reshape", inputs, widths[0]), *steps)
                                       for span, steps in zip(_spans([width // count for width in widths]), chosen,
                                                              strict=True))


def _spans(sizes):
    """(start, end) of things that lie beside each other."""
    ends = list(itertools.accumulate(sizes, initial=0))
    return list(itertools.pairwise(ends))
