"""Several steps in one call of the device: which go together."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any


def calls(batches: Iterator[tuple[int, Any, str]], most: int, until: Callable[[int], int]
          ) -> Iterator[tuple[int, Any, Any, int]]:
    """(first step, its batch, its digest, 1) of steps that go alone, which is where `most` is 1; else (first step, list
    of the call's batches, list of their digests, how many): up to `most`, and not past the step that `until` gives of
    the first. One that is left over is a list too, and so goes through the program of several."""
    for number, batch, digest in batches:
        if most == 1:
            yield number, batch, digest, 1
            continue
        more = list(islice(batches, min(most, until(number) - number) - 1))
        yield number, [batch, *(item[1] for item in more)], [digest, *(item[2] for item in more)], 1 + len(more)


def next_due(number: int, every: Iterable[int], ends: Iterable[int]) -> int:
    """The first update count after `number` that is a multiple of one of `every` (0: never) or one of `ends`."""
    return min([number - number % each + each for each in every if each] + [end for end in ends if end > number])
