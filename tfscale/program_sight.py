"""What is seen of a Keras program at work: what its layers that hold tensors are given and make."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from twinscale.common.pairs.program import Fed, Seen
from twinscale.tfscale.runtimes import as_tensor, nest


@contextmanager
def seen_of_keras(kind: type, names: Mapping[int, str], seen: list[Seen] | None) -> Iterator[None]:
    """While open, layers of a kind's framework fill `seen`.

    Args:
      names: {id of a layer: the module of its own tensors}.
      seen: as `Program.call` has it.
    """
    if seen is None:
        yield
        return
    base = next(one for one in kind.__mro__ if one.__name__ == "Layer")
    function = base.__call__

    def __call__(self, *given, **named):
        if id(self) not in names:
            return function(self, *given, **named)
        values = (seen.next(names[id(self)]) if isinstance(seen, Fed) else None) or Seen("", (), ())
        others, more = _fed((given, named), values.inputs)
        made = function(self, *others, **more)
        seen.append(Seen(names[id(self)], floats((given, named)), floats(made)))
        return _fed(made, values.outputs)

    with patch.object(base, "__call__", __call__):
        yield


def floats(tree: Any) -> tuple[Any, ...]:
    """The float tensors of a tree, in order."""
    return tuple(x for x in nest().flatten(tree) if _is_float(x))


def _is_float(x):
    return hasattr(x, "dtype") and "float" in str(getattr(x.dtype, "name", x.dtype))


def _fed(tree, values):
    """A tree with other values in place of its floats, which keep their masks; as it is where there are none."""
    left = list(values)

    def moved(x):
        if not _is_float(x):
            return x
        value = as_tensor(left.pop(0), x.dtype)
        if getattr(x, "_keras_mask", None) is not None:
            value._keras_mask = x._keras_mask
        return value

    return nest().map_structure(moved, tree) if left else tree
