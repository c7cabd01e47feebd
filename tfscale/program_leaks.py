"""Where Keras' JAX runtime computes in float32 what comes in as float64: which layers of a program, by their names."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import keras
from keras.src import backend
from keras.src.backend.common import dtypes

TOLD = "Keras on JAX computes in float32 whatever comes in: "


def leaks_of(call: Callable[[], Any]) -> tuple[str, ...]:
    """The layers that lose digits of float64 in a call, "NAME (CLASS)" in the order in which they first do.

    Keras' promotion gives float32 of float64 there, to whatever operation asks for it; attention's softmax asks nobody.
    """
    found: dict[str, None] = {}
    within: list[keras.layers.Layer] = []
    base, promoted = keras.layers.Layer.__call__, dtypes._lattice_result_type
    attention = backend.nn.dot_product_attention

    def __call__(self, *given, **named):
        within.append(self)
        try:
            return base(self, *given, **named)
        finally:
            within.pop()

    def noted():
        if within:
            found[f"{within[-1].name} ({type(within[-1]).__name__})"] = None

    def lattice(*given):
        made = promoted(*given)
        if made == "float32" and any(backend.standardize_dtype(one) == "float64" for one in given if one is not float):
            noted()
        return made

    def attended(query, *given, **named):
        if backend.standardize_dtype(query.dtype) == "float64":
            noted()
        return attention(query, *given, **named)

    with ExitStack() as stack:
        stack.enter_context(patch.object(keras.layers.Layer, "__call__", __call__))
        stack.enter_context(patch.object(dtypes, "_lattice_result_type", lattice))
        stack.enter_context(patch.object(backend.nn, "dot_product_attention", attended))
        call()
    return tuple(found)


def told(leaks: tuple[str, ...]) -> str:
    """One line on a program's leaks; "" where there are none."""
    return TOLD + ", ".join(leaks) if leaks else ""
