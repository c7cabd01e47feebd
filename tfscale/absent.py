"""TensorFlow in a process whose Keras runs on JAX: it is not imported there. A user's module that imports it gets what
stands for it and does nothing; what it calls of it is refused by name."""

import builtins
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from twinscale.common.errors import BadInput

ABSENT = "tensorflow", "tf_keras"
INSTALLED = sysconfig.get_path("stdlib"), "site-packages", "dist-packages"  # in whose paths libraries lie


class NotHere(BadInput):
    """A user's program asked for what its runtime has not."""

    _keras_call_info_injected = True  # or Keras would make several lines of it

    def __init__(self, said: str) -> None:
        super().__init__(said.rpartition("\n")[2])  # without what Keras puts before it, in a symbolic call


class Absent:
    """A name of TensorFlow's, by its path: it can be looked up, told about and asked what is of it, and not used."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __getattr__(self, name: str) -> "Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.path}.{name}")

    def __repr__(self) -> str:
        return self.path.replace("tensorflow", "tf", 1)

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        refuse(repr(self), "calls")

    def __mro_entries__(self, bases: Sequence[Any]) -> NoReturn:
        refuse(repr(self), "derives from")

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __or__(self, other: Any) -> Any:  # of an annotation
        return self

    __ror__ = __or__


def refuse(name: str, does: str) -> NoReturn:
    """Raises NotHere: which layer does what with a name of TensorFlow's, where, and what to write."""
    frame = sys._getframe(2)
    where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    layer = layer_of(frame)
    who = f"layer `{layer.name}` ({type(layer).__name__}) {does}" if layer is not None else does
    raise NotHere(f"{who} {name} ({where}), which Keras' JAX runtime has not: write {instead_of(name)}, or take "
                  "--runtime tensorflow")


def layer_of(frame: FrameType | None) -> Any:
    """The innermost Keras layer that is being called; None where none is."""
    import keras

    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, keras.layers.Layer):
            return found
        frame = frame.f_back
    return None


def instead_of(name: str) -> str:
    """What Keras has for a name of TensorFlow's, "tf.reduce_mean"."""
    import keras

    parts = name.split(".")
    if "keras" in parts[0]:
        return "keras" + name.removeprefix(parts[0])
    if parts[1:2] == ["keras"]:
        return name.partition(".")[2]
    last = parts[-1]
    found = next((one for one in (last, last.removeprefix("reduce_"), OTHERWISE.get(last, "")) if one and hasattr(
        keras.ops, one)), None)
    return f"keras.ops.{found}" if found else "it in keras.ops"


# What keras.ops calls otherwise than TensorFlow.
OTHERWISE: Mapping[str, str] = {"concat": "concatenate", "gather": "take", "constant": "convert_to_tensor",
                                "pow": "power", "boolean_mask": "where", "l2_normalize": "normalize"}


def keep_out() -> None:
    """From now on, whoever imports TensorFlow in this process gets `Absent` where that is a user's module, and else an
    ImportError, as of what is not installed."""
    from keras.src.utils import module_utils

    real = builtins.__import__

    def importing(name, globals=None, locals=None, fromlist=(), level=0):
        top = name.partition(".")[0]
        if level or top not in ABSENT or sys.modules.get(top) is not None:
            return real(name, globals, locals, fromlist, level)
        if is_users(globals):
            return Absent(name if fromlist else top)
        raise ImportError(f"{name}: this process has Keras on JAX", name=top)

    builtins.__import__ = importing  # type: ignore[assignment]
    module_utils.tensorflow._available = False  # or Keras would import it to seed it, by another way


def is_users(of: Mapping[str, Any] | None) -> bool:
    """Whether a module, by its globals, is no library's."""
    name, file = (str((of or {}).get(key) or "") for key in ("__name__", "__file__"))
    return bool(file) and not name.startswith("twinscale.") and not any(part in file for part in INSTALLED)
