"""A Keras optimizer of the user's own in our trainer: what it computes is Keras', what it keeps is found here."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from twinscale.common.errors import BadInput
from twinscale.common.optimizers import Slot
from twinscale.common.own import called
from twinscale.tfscale.runtimes import on_tensorflow

if TYPE_CHECKING:
    from twinscale.common.optimizers import PairOptions

WANTED = "a keras.optimizers.Optimizer"
# Of which classes a slot is what optax calls mu and nu: of others the attribute's name may mean something else.
KNOWN = {"_momentums": ("m", ("Adam", "Nadam", "Lion", "Lamb")),
         "_velocities": ("v", ("Adam", "Nadam", "Lamb", "RMSprop"))}
# What Keras' own `fit` does around an update, and what of ours does it here.
REFUSED = {"gradient_accumulation_steps": "train.accumulate adds up micro-batches",
           "use_ema": "optimizer.ema keeps an average of the weights",
           "loss_scale_factor": "nothing is scaled here: bfloat16 needs no scale of the loss"}


def own(o: "PairOptions", shared: Mapping[str, Any], number: Callable[[float], Any]) -> keras.optimizers.Optimizer:
    """The optimizer that the user's function returns, with constants of `number`: in float64 they are not rounded to
    float32. `shared` is ours, and not read.

    Raises BadInput where it is none, or does what the trainer does.
    """
    before = keras.backend.floatx()
    keras.backend.set_floatx("float64" if number is np.float64 else "float32")
    try:
        made = called("optimizer", o, "keras", WANTED)
    finally:
        keras.backend.set_floatx(before)
    if not isinstance(made, keras.optimizers.Optimizer):
        raise BadInput(f"optimizer.keras: the function returns {type(made).__name__}: {WANTED} is wanted")
    odd = next((key for key in REFUSED if getattr(made, key, None)), None)
    if odd or isinstance(made, keras.optimizers.LossScaleOptimizer):
        odd = odd or "dynamic loss scale"
        raise BadInput(f"optimizer.keras: {type(made).__name__} has {odd}, which its update does not do by itself: "
                       f"leave it out; {REFUSED.get(odd, REFUSED['loss_scale_factor'])}")
    if made.built:
        raise BadInput("optimizer.keras: the function returns an optimizer that is built already: return a new one "
                       "each time")
    if number is np.float64 and on_tensorflow():
        _widen(made)
        _widen(made._learning_rate)
    return made


def own_slots(optimizer: keras.optimizers.Optimizer, count: int) -> dict[str, Slot]:
    """{slot: where it is} of what a built optimizer keeps for each of `count` weights, in their shapes."""
    found, shapes = {}, [tuple(v.shape) for v in optimizer._trainable_variables]
    for name, held in vars(optimizer).items():
        if name in ("_trainable_variables", "_variables") or not isinstance(held, list | tuple) or len(held) != count:
            continue
        if all(isinstance(v, keras.Variable) for v in held) and [tuple(v.shape) for v in held] == shapes:
            slot, kinds = KNOWN.get(name, ("", ()))
            same = any(isinstance(optimizer, getattr(keras.optimizers, kind)) for kind in kinds)
            found[slot if same else f"keras.{name.strip('_')}"] = Slot(name, "")
    return found


def own_rest(optimizer: keras.optimizers.Optimizer, trained: Mapping[str, keras.Variable]) -> dict[str, keras.Variable]:
    """{"keras.rest/NAME": variable} of what a built optimizer keeps besides slots and the number of updates.

    What belongs to one of the `trained`, {canonical name: variable} in the optimizer's order, is "ATTRIBUTE.WEIGHT" or
    "KIND.WEIGHT", what is alone of its name has that: on either runtime, in whose order weights come. Several of one
    name that belong to nothing known are numbered, under their runtime's name, and mean nothing to the other.
    """
    known = {id(v) for slot in optimizer.held.values() for v in getattr(optimizer, slot.keras)}
    rest = [v for v in optimizer.variables if id(v) not in known | {id(optimizer.iterations)}]
    listed = _listed(optimizer, trained)
    names = [listed.get(id(v)) or _of_weight(v, trained) for v in rest]
    runtime, several = keras.backend.backend(), Counter(names)
    return {f"keras.rest/{name if several[name] == 1 else f'{runtime}.{i}.{name}'}": v
            for i, (name, v) in enumerate(zip(names, rest, strict=True))}


def _listed(optimizer, trained):
    """{id of a variable: "ATTRIBUTE.WEIGHT"} of those that an optimizer has in a dict by the weights' paths, or in a
    list, one for each weight and called after it: of others the order may mean anything."""
    found, paths = {}, {weight.path: name for name, weight in trained.items()}
    for attribute, held in vars(optimizer).items():
        if isinstance(held, Mapping):
            pairs = [(paths.get(key), v) for key, v in held.items()]
        elif isinstance(held, list | tuple) and len(held) == len(trained):
            pairs = [(name if weight.name in getattr(v, "name", "") else None, v)
                     for (name, weight), v in zip(trained.items(), held, strict=True)]
        else:
            continue
        found |= {id(v): f"{attribute.strip('_')}.{name}" for name, v in pairs if name}
    return found


def _of_weight(v, trained):
    """A variable's name: "KIND.WEIGHT" where Keras has made it from a weight, whose path the name begins with."""
    # Keras counts what a process has made.
    plain = re.sub(r"_[0-9]+$", "", v.path.rpartition("/")[2])
    starts = {f"{weight.path.replace('/', '_')}_": name for name, weight in trained.items()}
    start = max((start for start in starts if plain.startswith(start)), key=len, default="")
    return f"{plain.removeprefix(start)}.{starts[start]}" if start else plain


def _widen(holder: Any) -> None:
    """Makes Python floats among an object's attributes float64: Keras on TensorFlow casts them through
    float32; on JAX a NumPy number times a variable would ask this for its value."""
    for name, x in vars(holder).items() if hasattr(holder, "__dict__") else ():
        if type(x) is float:
            object.__setattr__(holder, name, np.float64(x))
        elif isinstance(x, list | tuple) and any(type(value) is float for value in x):
            widened = [np.float64(value) if type(value) is float else value for value in x]
            object.__setattr__(holder, name, type(x)(widened))
