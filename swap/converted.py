"""A function of JAX as one of TensorFlow, in a form that this TensorFlow reads."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from jax._src.export import _export  # whose form can be set nowhere else
from jax.experimental import jax2tf

Required = _export.hlo.StablehloCompatibilityRequirement
version_of = _export.hlo.get_version_from_compatibility_requirement


def converted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax2tf.convert` of a function whose gradient nobody takes, in the StableHLO of twelve weeks before: JAX 0.10.2
    writes that of four, 1.15, in which an error function is an operation that TensorFlow 2.21, of 1.13, cannot read."""
    convertible = jax2tf.convert(function, with_gradient=False)

    def call(*arguments):
        with patch.object(_export.hlo, "get_version_from_compatibility_requirement",
                          lambda _: version_of(Required.WEEK_12)):
            return convertible(*arguments)

    return call
